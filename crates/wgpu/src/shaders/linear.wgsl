// out = scale * (input x weight^T + bias), or that added to out.
//
// A workgroup makes COLUMNS columns of ROWS rows: LANES threads share a column,
// each takes every LANES-th group of 32 weights and uses it for all ROWS rows.

override width: u32;
override n_columns: u32;
// Column of the first row of this part of the weight, and columns of all parts.
override first_column: u32;
override out_width: u32;
override scale: f32;
override has_bias: bool;
override accumulate: bool;
override of_outputs: bool;

@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

const COLUMNS: u32 = THREADS / LANES;

var<workgroup> sums: array<f32, THREADS * ROWS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % LANES;
    let local_column = thread / LANES;
    let column = (group.x + group.z * groups.x) * COLUMNS + local_column;
    let first_row = group.y * ROWS;
    let n_rows = min(select(n_batch_rows(), n_output_rows(), of_outputs) - first_row, ROWS);

    var own: array<f32, ROWS>;
    if column < n_columns {
        let n_groups = width / 32u;
        for (var g = lane; g < n_groups; g += LANES) {
            let weight = weights(column * n_groups + g);
            for (var row = 0u; row < n_rows; row++) {
                let at = ((first_row + row) * n_groups + g) * 8u;
                var sum = vec4(0.0);
                for (var i = 0u; i < 8u; i++) {
                    sum += weight[i] * input[at + i];
                }
                own[row] += dot(sum, vec4(1.0));
            }
        }
    }
    for (var row = 0u; row < ROWS; row++) {
        sums[row * THREADS + thread] = own[row];
    }
    workgroupBarrier();

    // One thread finishes one value of the workgroup's COLUMNS x ROWS.
    for (var item = thread; item < COLUMNS * ROWS; item += THREADS) {
        let item_column = (group.x + group.z * groups.x) * COLUMNS + item % COLUMNS;
        let row = item / COLUMNS;
        if item_column >= n_columns || row >= n_rows { continue; }
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += sums[row * THREADS + (item % COLUMNS) * LANES + i];
        }
        let out_column = first_column + item_column;
        if has_bias { sum += bias[out_column]; }
        let at = (first_row + row) * out_width + out_column;
        if accumulate {
            out[at] += scale * sum;
        } else {
            out[at] = scale * sum;
        }
    }
}
