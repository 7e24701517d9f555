// Rows of the input, whose length and places are whole vec4.
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;

fn input_four(at: u32, column: u32) -> vec4<f32> { return input[(at + column) / 4u]; }
