// Weights in bf16, two to a word: the upper halves of f32.

fn two(word: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(vec2(word << 16u, word & 0xffff0000u));
}

fn weight_values(row: u32, group: u32, w: u32) -> mat2x4<f32> {
    let at = 16u * (row * parameters.n_groups + group) + 2u * w;
    return mat2x4<f32>(
        vec4(two(data[at]), two(data[at + 1u])),
        vec4(two(data[at + 8u]), two(data[at + 9u])),
    );
}
