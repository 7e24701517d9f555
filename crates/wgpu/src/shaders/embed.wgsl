// out[row] = scale * table[token of row]; one workgroup per row. A table in
// several parts is several dispatches, each for the tokens in its part.

override width: u32;
override first_token: u32;
override n_tokens: u32;
override scale: f32;

@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let entry = token(row) - first_token;
    if token(row) < first_token || entry >= n_tokens { return; }
    let n_groups = width / 32u;
    for (var g = thread; g < n_groups; g += THREADS) {
        let values = weights(entry * n_groups + g);
        for (var i = 0u; i < 8u; i++) {
            out[(row * n_groups + g) * 8u + i] = scale * values[i];
        }
    }
}
