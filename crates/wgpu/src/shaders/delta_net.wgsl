// A gated delta rule (arXiv 2412.06464) over the rows of one sequence. A workgroup keeps
// `columns` columns of one value head's matrix in workgroup memory; `lanes` threads share
// a column, each with every `lanes`-th key.

override n_key_heads: u32;
override n_value_heads: u32;
override grouped: bool;
override key_width: u32;
override value_width: u32;
// Values per row of the slots.
override qkv_width: u32;
override alpha_width: u32;
override beta_width: u32;
override out_width: u32;
override epsilon: f32;
override columns: u32;

override lanes: u32 = THREADS / columns;
override blocks: u32 = (value_width + columns - 1u) / columns;
override cells: u32 = key_width * columns;

@group(0) @binding(0) var<storage, read> qkv: array<f32>;
@group(0) @binding(1) var<storage, read> alpha: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
// Per value head: the factor of its decay, and the term of alpha.
@group(0) @binding(3) var<storage, read> head_terms: array<vec2<f32>>;
// `[n_value_heads, key_width, value_width]` per sequence.
@group(0) @binding(4) var<storage, read_write> states: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

var<workgroup> memory: array<f32, cells>;
var<workgroup> query: array<f32, key_width>;
var<workgroup> key: array<f32, key_width>;

// Sums over the lanes of a column, given to all of them.
fn sum_of_lanes(value: f32, thread: u32) -> f32 {
    partials[thread] = value;
    workgroupBarrier();
    var sum = 0.0;
    for (var lane = 0u; lane < lanes; lane++) {
        sum += partials[thread / lanes * lanes + lane];
    }
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n_rows = sequence_rows(group.y);
    if n_rows == 0u { return; }
    let first = first_row(group.y);
    let head = group.x / blocks;
    let lane = thread % lanes;
    let local_column = thread / lanes;
    let column = group.x % blocks * columns + local_column;
    let is_column = column < value_width;
    let state = (state_of(group.y) * n_value_heads + head) * key_width * value_width + column;
    let is_new = position(first) == 0u;
    for (var i = lane; i < key_width; i += lanes) {
        var value = 0.0;
        if is_column && !is_new { value = states[state + i * value_width]; }
        memory[i * columns + local_column] = value;
    }
    var key_head = head % n_key_heads;
    if grouped { key_head = head / (n_value_heads / n_key_heads); }
    let all_keys = n_key_heads * key_width;

    for (var row = first; row < first + n_rows; row++) {
        let row_start = row * qkv_width;
        var squares = vec2<f32>(0.0, 0.0);
        for (var i = thread; i < key_width; i += THREADS) {
            let q = qkv[row_start + key_head * key_width + i];
            let k = qkv[row_start + all_keys + key_head * key_width + i];
            query[i] = q;
            key[i] = k;
            squares += vec2<f32>(q * q, k * k);
        }
        let query_length = sqrt(workgroup_sum(squares.x, thread) + epsilon);
        let key_length = sqrt(workgroup_sum(squares.y, thread) + epsilon);

        let time = softplus(alpha[row * alpha_width + head] + head_terms[head].y);
        let decay = exp(head_terms[head].x * time);
        let rate = sigmoid(beta[row * beta_width + head]);
        var said = 0.0;
        for (var i = lane; i < key_width; i += lanes) {
            said += decay * memory[i * columns + local_column] * key[i];
        }
        said = sum_of_lanes(said, thread) / key_length;
        var value = 0.0;
        if is_column {
            value = qkv[row_start + 2u * all_keys + head * value_width + column];
        }
        let delta = rate * (value - said) / key_length;
        var result = 0.0;
        for (var i = lane; i < key_width; i += lanes) {
            let cell = i * columns + local_column;
            let new_value = decay * memory[cell] + key[i] * delta;
            memory[cell] = new_value;
            result += query[i] * new_value;
        }
        result = sum_of_lanes(result, thread);
        if is_column && lane == 0u {
            out[row * out_width + head * value_width + column] =
                result / (query_length * sqrt(f32(key_width)));
        }
    }

    if is_column {
        for (var i = lane; i < key_width; i += lanes) {
            states[state + i * value_width] = memory[i * columns + local_column];
        }
    }
}
