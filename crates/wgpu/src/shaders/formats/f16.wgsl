// Weights in f16, two to a word.

fn weight_values(row: u32, group: u32, w: u32) -> mat2x4<f32> {
    let at = 16u * (row * parameters.n_groups + group) + 2u * w;
    return mat2x4<f32>(
        vec4(unpack2x16float(data[at]), unpack2x16float(data[at + 1u])),
        vec4(unpack2x16float(data[at + 8u]), unpack2x16float(data[at + 9u])),
    );
}
