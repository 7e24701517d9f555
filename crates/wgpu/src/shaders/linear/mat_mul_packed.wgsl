// The tile of `mat_mul.wgsl` with inputs of int8: of columns and rows, a thread makes every
// eighth.

const COLUMNS: u32 = 64u;
const OWN_ROWS: u32 = ROWS / 8u;

// [half of the group][column or row]
var<workgroup> weight_quants: array<vec4<u32>, 2u * COLUMNS>;
var<workgroup> weight_factors: array<vec4<f32>, COLUMNS>;
var<workgroup> input_quants: array<vec4<u32>, 2u * ROWS>;
// Scale and sums.
var<workgroup> input_scales: array<vec4<f32>, ROWS>;

fn load_weights(place: Place, first_column: u32, group: u32, thread: u32) {
    let column = min(first_column + thread, parameters.n_columns - 1u);
    let at = (place.weight_row + column) * parameters.n_groups + group;
    let words = array<vec2<u32>, 4>(quants(at, 0u), quants(at, 1u), quants(at, 2u), quants(at, 3u));
    weight_quants[thread] = vec4(words[0].x, words[1].x, words[2].x, words[3].x);
    weight_quants[COLUMNS + thread] = vec4(words[0].y, words[1].y, words[2].y, words[3].y);
    weight_factors[thread] = factors(at);
}

fn load_inputs(place: Place, group: u32, thread: u32) {
    if thread >= ROWS { return; }
    let row = source_row(place.first + min(thread, place.n_rows - 1u));
    let at = 12u * ((row * parameters.in_stride + place.in_at) / 32u + group);
    input_quants[thread] = vec4(input[at], input[at + 1u], input[at + 2u], input[at + 3u]);
    input_quants[ROWS + thread] =
        vec4(input[at + 4u], input[at + 5u], input[at + 6u], input[at + 7u]);
    input_scales[thread] =
        bitcast<vec4<f32>>(vec4(input[at + 8u], input[at + 9u], input[at + 10u], 0u));
}

fn dot_16(a: vec4<u32>, b: vec4<u32>) -> f32 {
    return f32(dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y)
        + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let place = place_of(group, groups);
    let first_column = place.column_block * COLUMNS;
    if place.n_rows == 0u || first_column >= parameters.n_columns { return; }
    let x = thread % 8u;
    let y = thread / 8u;
    var sums: array<f32, 8u * OWN_ROWS>;
    for (var g = 0u; g < parameters.n_groups; g++) {
        load_weights(place, first_column, g, thread);
        load_inputs(place, g, thread);
        workgroupBarrier();
        for (var j = 0u; j < 8u; j++) {
            let first = weight_quants[8u * j + x];
            let second = weight_quants[COLUMNS + 8u * j + x];
            let factor = weight_factors[8u * j + x];
            for (var i = 0u; i < OWN_ROWS; i++) {
                let row = 8u * i + y;
                let scales = input_scales[row];
                let products = scales.x * vec2(
                    dot_16(first, input_quants[row]),
                    dot_16(second, input_quants[ROWS + row]),
                );
                sums[8u * i + j] += dot(factor, vec4(products, scales.yz));
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 8u * OWN_ROWS; i++) {
        let row = 8u * (i / 8u) + y;
        let column = first_column + 8u * (i % 8u) + x;
        if row < place.n_rows && column < parameters.n_columns {
            finish(place, row, column, sums[i]);
        }
    }
}
