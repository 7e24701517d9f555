// Puts together what several workgroups of `attend.wgsl` made of one head of one row.

override n_heads: u32;
override value_width: u32;
override value_quads: u32;
override out_row_width: u32;
override has_sinks: bool;

@group(0) @binding(0) var<storage, read> head_terms: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> shares: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n_shares = u32(shares[0].x);
    let head = group.x;
    let stride = value_quads + 1u;
    let start = 1u + (group.y * n_heads + head) * n_shares * stride;
    var maximum = -3.4e38;
    if has_sinks { maximum = head_terms[head].y; }
    for (var share = 0u; share < n_shares; share++) {
        maximum = max(maximum, shares[start + share * stride].x);
    }
    var total = 0.0;
    if has_sinks { total = exp(head_terms[head].y - maximum); }
    for (var share = 0u; share < n_shares; share++) {
        let one = shares[start + share * stride];
        total += exp(one.x - maximum) * one.y;
    }
    for (var quad = thread; quad < value_quads; quad += THREADS) {
        var values = vec4<f32>();
        for (var share = 0u; share < n_shares; share++) {
            let at = start + share * stride;
            values += exp(shares[at].x - maximum) * shares[at + 1u + quad];
        }
        values /= total;
        let first = group.y * out_row_width + head * value_width + 4u * quad;
        for (var c = 0u; c < min(4u, value_width - 4u * quad); c++) {
            out[first + c] = values[c];
        }
    }
}
