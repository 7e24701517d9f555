// What a workgroup works on. Its items are rows of the result.
struct Place {
    // Which COLUMNS columns of the matrix.
    column_block: u32,
    // Row of the weight that makes the matrix's first column.
    weight_row: u32,
    // Where in a row of the input, of the result, and in the bias the matrix's part begins.
    in_at: u32,
    out_at: u32,
    bias_at: u32,
    // The first item and how many, at most ROWS.
    first: u32,
    n_rows: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> data: array<u32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

fn finish(place: Place, index: u32, column: u32, product: f32) {
    let item = place.first + index;
    var value = place.factor * item_factor(item) * product;
    if has(HAS_BIAS) { value += bias[place.bias_at + column]; }
    value *= parameters.scale;
    let at = result_row(item) * parameters.out_stride + place.out_at + column;
    if has(ACCUMULATE) { value += out[at]; }
    out[at] = value;
}
