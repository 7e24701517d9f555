// The result is one buffer.
fn finish(place: Place, index: u32, column: u32, product: f32) {
    let item = place.first + index;
    var value = finished(place, item, column, product);
    let at = result_row(item) * parameters.out_stride + place.out_at + column;
    if has(ACCUMULATE) { value += out[at]; }
    out[at] = value;
}
