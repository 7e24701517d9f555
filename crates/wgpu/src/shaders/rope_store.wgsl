// Normalises and rotates one head of one row per workgroup: first the query
// heads, in place, then the key heads, into the cache together with their values.

// Query heads; none where another dispatch turns them.
override n_heads: u32;
// Values per row of the slots, which may be wider than their heads.
override q_row_width: u32;
override k_row_width: u32;
override v_row_width: u32;
override has_norm: bool;
override norm_after_rope: bool;
override epsilon: f32;
// The factor on queries; a scale of 0 for none.
override temperature_scale: f32;
override temperature_length: u32;
// Whole lengths of its offset, and the rest.
override temperature_steps: u32;
override temperature_rest: u32;

@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// Norm of a query head, then that of a key head.
@group(0) @binding(3) var<storage, read> head_norm: array<f32>;
@group(0) @binding(4) var<storage, read_write> q: array<f32>;
@group(0) @binding(5) var<storage, read_write> kv: array<Quad>;

var<workgroup> head: array<f32, key_width>;

// To be called with `head` complete, and followed by a barrier.
fn normalize(norm_first: u32, thread: u32) {
    var squares = 0.0;
    for (var i = thread; i < key_width; i += THREADS) {
        squares += head[i] * head[i];
    }
    let factor = 1.0 / sqrt(workgroup_sum(squares, thread) / f32(key_width) + epsilon);
    for (var i = thread; i < key_width; i += THREADS) {
        head[i] *= factor * head_norm[norm_first + i];
    }
}

fn temperature(at_position: u32) -> f32 {
    let rest = at_position % temperature_length + temperature_rest;
    let steps = at_position / temperature_length + temperature_steps + rest / temperature_length;
    return 1.0 + temperature_scale * log(1.0 + f32(steps));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let at_position = position(row);
    let is_query = group.x < n_heads;
    let kv_head = group.x - n_heads;
    let q_first = row * q_row_width + group.x * key_width;
    let k_first = row * k_row_width + (first_kv_head + kv_head) * key_width;
    for (var i = thread; i < key_width; i += THREADS) {
        if is_query { head[i] = q[q_first + i]; } else { head[i] = k[k_first + i]; }
    }
    workgroupBarrier();

    let norm_first = select(key_width, 0u, is_query);
    if has_norm && !norm_after_rope { normalize(norm_first, thread); }
    workgroupBarrier();
    rotate(at_position, thread);
    workgroupBarrier();
    if has_norm && norm_after_rope { normalize(norm_first, thread); }
    workgroupBarrier();

    if is_query {
        let factor = temperature(at_position);
        for (var i = thread; i < key_width; i += THREADS) {
            q[q_first + i] = factor * head[i];
        }
        return;
    }
    let key_first = key_at(row, at_position, kv_head);
    for (var quad = thread; quad < key_quads; quad += THREADS) {
        var values = vec4<f32>();
        for (var i = 0u; i < min(4u, key_width - 4u * quad); i++) {
            values[i] = head[4u * quad + i];
        }
        kv[key_first + quad] = pack_quad(values);
    }
    let value_first = value_at(row, at_position, kv_head);
    let v_first = row * v_row_width + (first_kv_head + kv_head) * value_width;
    for (var quad = thread; quad < value_quads; quad += THREADS) {
        var values = vec4<f32>();
        for (var i = 0u; i < min(4u, value_width - 4u * quad); i++) {
            values[i] = v[v_first + 4u * quad + i];
        }
        kv[value_first + quad] = pack_quad(values);
    }
}
