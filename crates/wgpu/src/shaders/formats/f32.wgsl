// Weights in f32.

fn weight_values(row: u32, group: u32, w: u32) -> mat2x4<f32> {
    let at = 32u * (row * parameters.n_groups + group) + 4u * w;
    let first = vec4(data[at], data[at + 1u], data[at + 2u], data[at + 3u]);
    let second = vec4(data[at + 16u], data[at + 17u], data[at + 18u], data[at + 19u]);
    return mat2x4<f32>(bitcast<vec4<f32>>(first), bitcast<vec4<f32>>(second));
}
