// Rounds groups of 32 values to int8, one group per thread: see `packed.wgsl`.

override n_groups: u32;
override stride: u32;

@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= n_groups { return; }
    let at = (id.y * stride) / 4u + 8u * id.x;
    let words = 12u * (id.y * n_groups + id.x);
    var largest = vec4(0.0);
    for (var i = 0u; i < 8u; i++) {
        largest = max(largest, abs(input[at + i]));
    }
    let scale = max(max(largest.x, largest.y), max(largest.z, largest.w)) / 127.0;
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    var sums = vec2(0);
    for (var i = 0u; i < 8u; i++) {
        let quants = vec4<i32>(round(inverse * input[at + i]));
        let sum = quants.x + quants.y + quants.z + quants.w;
        if i < 4u { sums.x += sum; } else { sums.y += sum; }
        let bytes = (bitcast<vec4<u32>>(quants) & vec4(0xffu)) << vec4(0u, 8u, 16u, 24u);
        out[words + i] = bytes.x | bytes.y | bytes.z | bytes.w;
    }
    out[words + 8u] = bitcast<u32>(scale);
    out[words + 9u] = bitcast<u32>(scale * f32(sums.x));
    out[words + 10u] = bitcast<u32>(scale * f32(sums.y));
}
