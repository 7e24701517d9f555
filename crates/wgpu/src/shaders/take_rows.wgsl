// out[i] = input[output row i]

override width: u32;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    out[id.y * width + id.x] = input[output_row(id.y) * width + id.x];
}
