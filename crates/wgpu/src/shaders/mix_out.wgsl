// One output of a mix, from the sums of `mix.wgsl`.

override n_outputs: u32;
override index: u32;
// Values per row of the sums and of the output.
override sum_width: u32;
override width: u32;
override accumulate: bool;

@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    let at = id.y * width + id.x;
    let sum = sums[(id.y * n_outputs + index) * sum_width + id.x];
    if accumulate { out[at] += sum; } else { out[at] = sum; }
}
