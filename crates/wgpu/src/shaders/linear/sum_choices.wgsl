// out[row] = sum over its choices of weight * result, or that added to out.

override width: u32;
override out_width: u32;
override n_used: u32;
// The inputs were weighted, not the results.
override weigh_input: bool;
override accumulate: bool;

@group(0) @binding(0) var<storage, read> results: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    var sum = 0.0;
    for (var choice = id.y * n_used; choice < (id.y + 1u) * n_used; choice++) {
        let result = results[choice * width + id.x];
        if weigh_input { sum += result; } else { sum += weights[choice] * result; }
    }
    let at = id.y * out_width + id.x;
    if accumulate { sum += out[at]; }
    out[at] = sum;
}
