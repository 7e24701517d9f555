// softmax(mask(scale * q k^T)) v for one head of one row per workgroup, over
// tiles of THREADS positions with a running maximum and sum (arXiv 1805.02867).

override n_heads: u32;
override scale: f32;
// 0 for none.
override softcap: f32;
// 0 for the whole sequence.
override window: u32;
override causal: bool;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const LOWEST: f32 = -3.4e38;

var<workgroup> query: array<f32, key_width>;
var<workgroup> mixed: array<f32, value_width>;
var<workgroup> weight: array<f32, THREADS>;

fn workgroup_max(value: f32, thread: u32) -> f32 {
    partials[thread] = value;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if thread < reach {
            partials[thread] = max(partials[thread], partials[thread + reach]);
        }
        workgroupBarrier();
    }
    let result = partials[0];
    workgroupBarrier();
    return result;
}

fn score(row: u32, at_position: u32, kv_head: u32) -> f32 {
    let first = key_at(row, at_position, kv_head);
    var sum = 0.0;
    for (var i = 0u; i < key_width; i++) {
        sum += query[i] * kv[first + i];
    }
    let result = scale * sum;
    // Beyond 15 tanh is 1 in f32; some drivers give NaN for large arguments.
    if softcap > 0.0 { return softcap * tanh(clamp(result / softcap, -15.0, 15.0)); }
    return result;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let kv_head = group.x / (n_heads / n_kv_heads);
    for (var i = thread; i < key_width; i += THREADS) {
        query[i] = q[(row * n_heads + group.x) * key_width + i];
    }
    for (var i = thread; i < value_width; i += THREADS) {
        mixed[i] = 0.0;
    }
    workgroupBarrier();

    let own = position(row);
    let end = select(last_position(row), own, causal) + 1u;
    let start = select(0u, own + 1u - window, window > 0u && own + 1u > window);
    var maximum = LOWEST;
    var sum = 0.0;
    for (var tile = start; tile < end; tile += THREADS) {
        var own_score = LOWEST;
        if tile + thread < end { own_score = score(row, tile + thread, kv_head); }
        let new_maximum = max(maximum, workgroup_max(own_score, thread));
        let shrink = exp(maximum - new_maximum);
        maximum = new_maximum;
        let own_weight = select(0.0, exp(own_score - maximum), tile + thread < end);
        weight[thread] = own_weight;
        sum = sum * shrink + workgroup_sum(own_weight, thread);
        let n_tile = min(end - tile, THREADS);
        for (var i = thread; i < value_width; i += THREADS) {
            var value = mixed[i] * shrink;
            for (var at = 0u; at < n_tile; at++) {
                value += weight[at] * kv[value_at(row, tile + at, kv_head) + i];
            }
            mixed[i] = value;
        }
        workgroupBarrier();
    }
    for (var i = thread; i < value_width; i += THREADS) {
        out[(row * n_heads + group.x) * value_width + i] = mixed[i] / sum;
    }
}
