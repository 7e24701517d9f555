// A selective scan (arXiv 2312.00752, 2405.21060) over the rows of one sequence. A
// workgroup keeps what `columns` values keep; `lanes` threads share one of them.

override n_heads: u32;
override head_width: u32;
override state_width: u32;
override n_groups: u32;
// Decays per head: one for each value it keeps, or one.
override n_decays: u32;
// Values per row of the slots.
override x_width: u32;
override dt_width: u32;
override b_width: u32;
override c_width: u32;
override out_width: u32;
override columns: u32;

override lanes: u32 = THREADS / columns;
override cells: u32 = state_width * columns;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dt: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> c: array<f32>;
// Per head its term of dt and its factor of x, then the decays.
@group(0) @binding(4) var<storage, read> head_terms: array<f32>;
// `[n_heads, head_width, state_width]` per sequence.
@group(0) @binding(5) var<storage, read_write> states: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

var<workgroup> memory: array<f32, cells>;
var<workgroup> partials: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n_rows = sequence_rows(group.y);
    if n_rows == 0u { return; }
    let first = first_row(group.y);
    let lane = thread % lanes;
    let local_column = thread / lanes;
    let column = group.x * columns + local_column;
    let n_columns = n_heads * head_width;
    let is_column = column < n_columns;
    let head = min(column, n_columns - 1u) / head_width;
    let group_start = head / (n_heads / n_groups) * state_width;
    let decay_start = 2u * n_heads + head * n_decays;
    let state = (state_of(group.y) * n_columns + column) * state_width;
    let is_new = position(first) == 0u;
    for (var i = lane; i < state_width; i += lanes) {
        var value = 0.0;
        if is_column && !is_new { value = states[state + i]; }
        memory[i * columns + local_column] = value;
    }

    for (var row = first; row < first + n_rows; row++) {
        let time = softplus(dt[row * dt_width + head] + head_terms[2u * head]);
        var value = 0.0;
        if is_column { value = x[row * x_width + column]; }
        var sum = 0.0;
        for (var i = lane; i < state_width; i += lanes) {
            let cell = i * columns + local_column;
            let decay = head_terms[decay_start + select(i, 0u, n_decays == 1u)];
            let new_value = exp(time * decay) * memory[cell]
                + time * value * b[row * b_width + group_start + i];
            memory[cell] = new_value;
            sum += new_value * c[row * c_width + group_start + i];
        }
        partials[thread] = sum;
        workgroupBarrier();
        if is_column && lane == 0u {
            var result = head_terms[2u * head + 1u] * value;
            for (var i = 0u; i < lanes; i++) {
                result += partials[thread + i];
            }
            out[row * out_width + column] = result;
        }
        workgroupBarrier();
    }

    if is_column {
        for (var i = lane; i < state_width; i += lanes) {
            states[state + i] = memory[i * columns + local_column];
        }
    }
}
