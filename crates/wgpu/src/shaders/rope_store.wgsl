// Normalises and rotates one head of one row per workgroup: first the query
// heads, in place, then the key heads, into the cache together with their values.

override n_heads: u32;
override n_dims: u32;
override interleaved: bool;
override has_norm: bool;
override epsilon: f32;

@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
// (cos, sin) per pair for the three bytes of a position; see `rope.rs`.
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;
// Norm of a query head, then that of a key head.
@group(0) @binding(3) var<storage, read> head_norm: array<f32>;
@group(0) @binding(4) var<storage, read_write> q: array<f32>;
@group(0) @binding(5) var<storage, read_write> kv: array<f32>;

var<workgroup> head: array<f32, key_width>;

// The angle of sum of two angles given by cosine and sine.
fn turn(a: vec2<f32>, b: vec2<f32>) -> vec2<f32> {
    return vec2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}

fn angle(at_position: u32, pair: u32) -> vec2<f32> {
    let n_pairs = n_dims / 2u;
    let low = angles[(at_position & 255u) * n_pairs + pair];
    let middle = angles[(256u + ((at_position >> 8u) & 255u)) * n_pairs + pair];
    let high = angles[(512u + ((at_position >> 16u) & 255u)) * n_pairs + pair];
    return turn(turn(high, middle), low);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let is_query = group.x < n_heads;
    let kv_head = group.x - n_heads;
    let q_first = (row * n_heads + group.x) * key_width;
    let k_first = (row * n_kv_heads + kv_head) * key_width;

    var squares = 0.0;
    for (var i = thread; i < key_width; i += THREADS) {
        var value: f32;
        if is_query { value = q[q_first + i]; } else { value = k[k_first + i]; }
        head[i] = value;
        squares += value * value;
    }
    if has_norm {
        let factor = 1.0 / sqrt(workgroup_sum(squares, thread) / f32(key_width) + epsilon);
        let norm_first = select(key_width, 0u, is_query);
        for (var i = thread; i < key_width; i += THREADS) {
            head[i] *= factor * head_norm[norm_first + i];
        }
    }
    workgroupBarrier();

    for (var pair = thread; pair < n_dims / 2u; pair += THREADS) {
        let first = select(pair, 2u * pair, interleaved);
        let second = select(pair + n_dims / 2u, 2u * pair + 1u, interleaved);
        let turned = turn(vec2(head[first], head[second]), angle(position(row), pair));
        head[first] = turned.x;
        head[second] = turned.y;
    }
    workgroupBarrier();

    if is_query {
        for (var i = thread; i < key_width; i += THREADS) {
            q[q_first + i] = head[i];
        }
        return;
    }
    let key_first = key_at(row, position(row), kv_head);
    for (var i = thread; i < key_width; i += THREADS) {
        kv[key_first + i] = head[i];
    }
    let value_first = value_at(row, position(row), kv_head);
    let v_first = (row * n_kv_heads + kv_head) * value_width;
    for (var i = thread; i < value_width; i += THREADS) {
        kv[value_first + i] = v[v_first + i];
    }
}
