// A matrix of its own for each head; values behind those that are multiplied are copied.
//
// A workgroup makes COLUMNS columns of one head of ROWS rows: LANES threads share a
// column, each takes every LANES-th group of 32 weights and uses it for all ROWS rows.

override n_heads: u32;
override in_width: u32;
// Columns of a head.
override n_columns: u32;
override rest: u32;
// The weight's rows that are bound: others belong to other dispatches.
override first_column: u32;
override end_column: u32;
// Values per row of the slots.
override input_width: u32;
override out_width: u32;
override of_outputs: bool;

@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const COLUMNS: u32 = THREADS / LANES;

var<workgroup> sums: array<f32, THREADS * ROWS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let blocks = (n_columns + COLUMNS - 1u) / COLUMNS;
    let head = group.x / blocks;
    let block = group.x % blocks * COLUMNS;
    let lane = thread % LANES;
    let column = block + thread / LANES;
    let weight_row = head * n_columns + column;
    let is_column = column < n_columns && weight_row >= first_column && weight_row < end_column;
    let begin = group.y * ROWS;
    let n_rows = min(select(n_batch_rows(), n_output_rows(), of_outputs) - begin, ROWS);
    let in_head = head * (in_width + rest);
    let out_head = head * (n_columns + rest);

    var own = array<f32, ROWS>();
    if is_column {
        let n_groups = in_width / 32u;
        for (var g = lane; g < n_groups; g += LANES) {
            let weight = weights((weight_row - first_column) * n_groups + g);
            for (var row = 0u; row < n_rows; row++) {
                let at = (begin + row) * input_width + in_head + 32u * g;
                var sum = 0.0;
                for (var i = 0u; i < 8u; i++) {
                    let first = at + 4u * i;
                    sum += dot(weight[i], vec4<f32>(
                        input[first], input[first + 1u], input[first + 2u], input[first + 3u]));
                }
                own[row] += sum;
            }
        }
    }
    for (var row = 0u; row < ROWS; row++) {
        sums[row * THREADS + thread] = own[row];
    }
    workgroupBarrier();

    if is_column && lane == 0u {
        for (var row = 0u; row < n_rows; row++) {
            var sum = 0.0;
            for (var i = 0u; i < LANES; i++) {
                sum += sums[row * THREADS + thread + i];
            }
            out[(begin + row) * out_width + out_head + column] = sum;
        }
    }
    if block == 0u && first_column == 0u {
        for (var row = 0u; row < n_rows; row++) {
            for (var i = thread; i < rest; i += THREADS) {
                out[(begin + row) * out_width + out_head + n_columns + i] =
                    input[(begin + row) * input_width + in_head + in_width + i];
            }
        }
    }
}
