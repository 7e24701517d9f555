// Rows of the input of any length: what is beyond a row of the weight is 0.
@group(0) @binding(2) var<storage, read> input: array<f32>;

fn input_at(at: u32, column: u32) -> f32 {
    if column >= parameters.width { return 0.0; }
    return input[at + column];
}

fn input_four(at: u32, column: u32) -> vec4<f32> {
    return vec4(
        input_at(at, column),
        input_at(at, column + 1u),
        input_at(at, column + 2u),
        input_at(at, column + 3u),
    );
}
