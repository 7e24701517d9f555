// Weights in f32 whose rows need not be whole groups: what is beyond a row is 0.

fn weight_at(row: u32, column: u32) -> f32 {
    if column >= parameters.width { return 0.0; }
    return bitcast<f32>(data[row * parameters.width + column]);
}

fn weight_four(row: u32, column: u32) -> vec4<f32> {
    return vec4(
        weight_at(row, column),
        weight_at(row, column + 1u),
        weight_at(row, column + 2u),
        weight_at(row, column + 3u),
    );
}

fn weight_values(row: u32, group: u32, w: u32) -> mat2x4<f32> {
    let column = 32u * group + 4u * w;
    return mat2x4<f32>(weight_four(row, column), weight_four(row, column + 16u));
}
