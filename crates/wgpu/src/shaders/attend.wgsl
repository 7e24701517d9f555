// softmax(mask(scale * q k^T)) v with a running maximum and sum (arXiv 1805.02867).
//
// The query heads of one key head, row after row, are its queries. A workgroup works on
// `tile` of them and goes through the positions that they see, `tile_keys` at a time: all
// positions, or with a grid of several workgroups in depth its share of them, which
// `attend_merge.wgsl` then puts together. Where a layer's key heads lie in several buffers, each
// has a grid of its own, all of the same depth.
//
// `lanes` threads share `per_thread` queries. For the scores each of them takes some of
// the keys, which pass through workgroup memory in pieces of `piece` quads; for the sums
// each takes every `lanes`-th quad of the values.

// Query heads of a row, and how many of them share a key head.
override n_heads: u32;
override heads_per_kv: u32;
// Values per row of the slots.
override q_row_width: u32;
override out_row_width: u32;
override scale: f32;
// 0 for none.
override softcap: f32;
// 0 for the whole sequence.
override window: u32;
override chunked: bool;
override causal: bool;
override has_sinks: bool;
override has_slopes: bool;

override tile: u32;
override per_thread: u32;
override tile_keys: u32;
override piece: u32;

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> kv: array<Quad>;
// Per head: what a score loses with each position of distance, and the sink.
@group(0) @binding(2) var<storage, read> head_terms: array<vec2<f32>>;
// The number of shares; then per row, head and share its maximum and sum, then its values.
@group(0) @binding(3) var<storage, read_write> shares: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

const LOWEST: f32 = -3.4e38;
// Bounds of what a thread keeps; see `attend.rs`.
const MAX_QUERIES: u32 = 4u;
const MAX_SCORES: u32 = 16u;
const MAX_QUADS: u32 = 16u;

override lanes: u32 = THREADS * per_thread / tile;
override keys_per_thread: u32 = tile_keys / lanes;
override quads_per_thread: u32 = (value_quads + lanes - 1u) / lanes;
override query_quads: u32 = tile * piece;
override staged_quads: u32 = tile_keys * piece;
override tile_scores: u32 = tile * tile_keys;
override tile_lanes: u32 = tile * lanes;

var<workgroup> queries: array<vec4<f32>, query_quads>;
var<workgroup> keys: array<vec4<f32>, staged_quads>;
var<workgroup> scores: array<f32, tile_scores>;
var<workgroup> of_lanes: array<f32, tile_lanes>;
// Where the keys and the values of the positions begin.
var<workgroup> key_starts: array<u32, tile_keys>;
var<workgroup> value_starts: array<u32, tile_keys>;

// First position that a row sees.
fn first_seen(row: u32) -> u32 {
    let own = position(row);
    if window == 0u { return 0u; }
    // No window is 0 from here on, but its type does not say so.
    let size = max(window, 1u);
    if chunked { return own - own % size; }
    let before = select(size / 2u, size - 1u, causal);
    return own - min(own, before);
}

// The position after the last that a row sees.
fn end_seen(row: u32) -> u32 {
    let own = position(row);
    if causal { return own + 1u; }
    let last = last_position(row);
    if window == 0u || chunked { return last + 1u; }
    return min(last, own + window / 2u) + 1u;
}

fn query_quad(query: u32, quad: u32, first_head: u32) -> vec4<f32> {
    let row = query / heads_per_kv;
    let head = first_head + query % heads_per_kv;
    let first = row * q_row_width + head * key_width + 4u * quad;
    var values = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        if 4u * quad + i < key_width { values[i] = q[first + i]; }
    }
    return values;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let kv_head = group.x;
    let first_head = (first_kv_head + kv_head) * heads_per_kv;
    let n_queries = n_batch_rows() * heads_per_kv;
    let first_query = group.y * tile;
    let end_query = min(first_query + tile, n_queries);
    let end_row = (end_query - 1u) / heads_per_kv + 1u;
    let lane = thread % lanes;
    let own_first = thread / lanes * per_thread;

    var maximum: array<f32, MAX_QUERIES>;
    // Over the lane's own keys alone.
    var sum: array<f32, MAX_QUERIES>;
    var mixed: array<vec4<f32>, MAX_QUADS>;
    for (var i = 0u; i < per_thread; i++) {
        maximum[i] = LOWEST;
    }

    // Rows of one sequence at a time.
    var next_row = first_query / heads_per_kv;
    while next_row < end_row {
        let first_row = next_row;
        while next_row < end_row && sequence(next_row) == sequence(first_row) {
            next_row++;
        }
        // What the thread's own queries see.
        var seen = array<vec2<u32>, MAX_QUERIES>();
        for (var i = 0u; i < per_thread; i++) {
            let query = first_query + own_first + i;
            let row = query / heads_per_kv;
            if query < end_query && row >= first_row && row < next_row {
                seen[i] = vec2<u32>(first_seen(row), end_seen(row));
            }
        }
        let start = first_seen(first_row);
        let end = end_seen(next_row - 1u);
        let tiles = (end - start + tile_keys - 1u) / tile_keys;
        let share = (tiles + groups.z - 1u) / groups.z * tile_keys;
        let share_start = start + group.z * share;
        let share_end = min(share_start + share, end);

        for (var first = share_start; first < share_end; first += tile_keys) {
            for (var i = thread; i < tile_keys; i += THREADS) {
                // Those beyond the end are read and masked.
                let at = min(first + i, end - 1u);
                key_starts[i] = key_at(first_row, at, kv_head);
                value_starts[i] = value_at(first_row, at, kv_head);
            }
            var own = array<f32, MAX_SCORES>();
            for (var begin = 0u; begin < key_quads; begin += piece) {
                workgroupBarrier();
                for (var i = thread; i < query_quads; i += THREADS) {
                    let query = first_query + i / piece;
                    let quad = begin + i % piece;
                    var values = vec4<f32>();
                    if query < end_query && quad < key_quads {
                        values = query_quad(query, quad, first_head);
                    }
                    queries[i] = values;
                }
                for (var i = thread; i < staged_quads; i += THREADS) {
                    let quad = begin + i % piece;
                    var values = vec4<f32>();
                    if quad < key_quads {
                        values = unpack_quad(kv[key_starts[i / piece] + quad]);
                    }
                    keys[i] = values;
                }
                workgroupBarrier();
                for (var quad = 0u; quad < piece; quad++) {
                    for (var i = 0u; i < per_thread; i++) {
                        let query = queries[(own_first + i) * piece + quad];
                        for (var j = 0u; j < keys_per_thread; j++) {
                            let key = keys[(j * lanes + lane) * piece + quad];
                            own[i * keys_per_thread + j] += dot(query, key);
                        }
                    }
                }
            }

            for (var i = 0u; i < per_thread; i++) {
                let query = first_query + own_first + i;
                let head = first_head + query % heads_per_kv;
                let own_position = position(min(query, n_queries - 1u) / heads_per_kv);
                var largest = LOWEST;
                for (var j = 0u; j < keys_per_thread; j++) {
                    let at = first + j * lanes + lane;
                    var score = scale * own[i * keys_per_thread + j];
                    // Beyond 15 tanh is 1 in f32; some drivers give NaN for large arguments.
                    if softcap > 0.0 {
                        // No cap is 0 from here on, but its type does not say so.
                        let cap = max(softcap, 1e-30);
                        score = cap * tanh(clamp(score / cap, -15.0, 15.0));
                    }
                    if has_slopes {
                        let distance = max(at, own_position) - min(at, own_position);
                        score -= head_terms[head].x * f32(distance);
                    }
                    if at < seen[i].x || at >= seen[i].y { score = LOWEST; }
                    own[i * keys_per_thread + j] = score;
                    largest = max(largest, score);
                }
                of_lanes[(own_first + i) * lanes + lane] = largest;
            }
            workgroupBarrier();
            var shrink = array<f32, MAX_QUERIES>();
            for (var i = 0u; i < per_thread; i++) {
                var largest = maximum[i];
                for (var j = 0u; j < lanes; j++) {
                    largest = max(largest, of_lanes[(own_first + i) * lanes + j]);
                }
                shrink[i] = exp(maximum[i] - largest);
                maximum[i] = largest;
                sum[i] *= shrink[i];
                for (var j = 0u; j < keys_per_thread; j++) {
                    let at = first + j * lanes + lane;
                    var weight = 0.0;
                    if at >= seen[i].x && at < seen[i].y {
                        weight = exp(own[i * keys_per_thread + j] - largest);
                    }
                    sum[i] += weight;
                    scores[(own_first + i) * tile_keys + j * lanes + lane] = weight;
                }
                for (var k = 0u; k < quads_per_thread; k++) {
                    mixed[i * quads_per_thread + k] *= shrink[i];
                }
            }
            workgroupBarrier();
            let n_keys = min(share_end - first, tile_keys);
            for (var key = 0u; key < n_keys; key++) {
                for (var k = 0u; k < quads_per_thread; k++) {
                    let quad = k * lanes + lane;
                    if quad >= value_quads { break; }
                    let value = unpack_quad(kv[value_starts[key] + quad]);
                    for (var i = 0u; i < per_thread; i++) {
                        let weight = scores[(own_first + i) * tile_keys + key];
                        mixed[i * quads_per_thread + k] += weight * value;
                    }
                }
            }
            workgroupBarrier();
        }
    }

    for (var i = 0u; i < per_thread; i++) {
        of_lanes[(own_first + i) * lanes + lane] = sum[i];
    }
    workgroupBarrier();
    for (var i = 0u; i < per_thread; i++) {
        let query = first_query + own_first + i;
        if query >= end_query { break; }
        let row = query / heads_per_kv;
        let head = first_head + query % heads_per_kv;
        var total = 0.0;
        for (var j = 0u; j < lanes; j++) {
            total += of_lanes[(own_first + i) * lanes + j];
        }
        if groups.z > 1u {
            if query + lane + group.x + group.z == 0u {
                shares[0] = vec4<f32>(f32(groups.z), 0.0, 0.0, 0.0);
            }
            let at = 1u + ((row * n_heads + head) * groups.z + group.z) * (value_quads + 1u);
            if lane == 0u { shares[at] = vec4<f32>(maximum[i], total, 0.0, 0.0); }
            for (var k = 0u; k * lanes + lane < value_quads; k++) {
                shares[at + 1u + k * lanes + lane] = mixed[i * quads_per_thread + k];
            }
        } else {
            var factor = 1.0 / total;
            if has_sinks {
                let sink = head_terms[head].y;
                let largest = max(maximum[i], sink);
                let shrink = exp(maximum[i] - largest);
                factor = shrink / (total * shrink + exp(sink - largest));
            }
            for (var k = 0u; k * lanes + lane < value_quads; k++) {
                let quad = k * lanes + lane;
                let values = factor * mixed[i * quads_per_thread + k];
                let first = row * out_row_width + head * value_width + 4u * quad;
                for (var c = 0u; c < min(4u, value_width - 4u * quad); c++) {
                    out[first + c] = values[c];
                }
            }
        }
    }
}
