// Matrices that lie side by side: the columns of each have a result of their own.

@group(0) @binding(5) var<storage, read_write> second_out: array<f32>;
@group(0) @binding(6) var<storage, read_write> third_out: array<f32>;

fn finish(place: Place, index: u32, column: u32, product: f32) {
    let item = place.first + index;
    let row = result_row(item);
    let value = finished(place, item, column, product);
    if column >= parameters.third_at {
        third_out[row * parameters.third_stride + column - parameters.third_at] = value;
    } else if column >= parameters.second_at {
        second_out[row * parameters.second_stride + column - parameters.second_at] = value;
    } else {
        out[row * parameters.out_stride + column] = value;
    }
}
