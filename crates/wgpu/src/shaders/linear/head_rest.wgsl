// Copies the values of each head that `Step::HeadLinear` does not multiply.

override n_heads: u32;
override rest: u32;
override in_head: u32;
override out_head: u32;
override in_stride: u32;
override out_stride: u32;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= n_heads * rest { return; }
    let head = id.x / rest;
    let at = id.x % rest;
    out[id.y * out_stride + (head + 1u) * out_head - rest + at] =
        input[id.y * in_stride + (head + 1u) * in_head - rest + at];
}
