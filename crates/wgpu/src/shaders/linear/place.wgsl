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

// What becomes of a product before it is stored or added.
fn finished(place: Place, item: u32, column: u32, product: f32) -> f32 {
    var value = place.factor * item_factor(item) * product;
    if has(HAS_BIAS) { value += bias[place.bias_at + column]; }
    return parameters.scale * value;
}
