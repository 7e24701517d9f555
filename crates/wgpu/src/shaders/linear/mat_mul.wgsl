// A tile of COLUMNS columns and ROWS rows per workgroup, which takes 32 values of each at a
// time to its memory. A thread makes 8 columns and 4 * ROW_QUADS rows: of both, every eighth four.

const COLUMNS: u32 = 64u;
const QUADS: u32 = ROWS / 4u;
const ROW_QUADS: u32 = QUADS / 8u;
const CELLS: u32 = 8u * ROW_QUADS;
// Products that are added up in f16: longer runs are faster and less exact.
const RUN: u32 = select(32u, 8u, NARROW);

// [value of the group][four columns], [value of the group][four rows]
var<workgroup> weight_tile: array<vec4<value>, 32u * COLUMNS / 4u>;
var<workgroup> input_tile: array<vec4<value>, 32u * QUADS>;

fn load_weights(place: Place, first_column: u32, group: u32, thread: u32) {
    let quad = thread % 16u;
    let w = thread / 16u;
    var four: array<Weights, 4>;
    for (var i = 0u; i < 4u; i++) {
        let column = min(first_column + 4u * quad + i, parameters.n_columns - 1u);
        four[i] = weights_at(place.weight_row + column, group, w);
    }
    for (var k = 0u; k < 4u; k++) {
        weight_tile[(4u * w + k) * 16u + quad] =
            vec4(four[0].first[k], four[1].first[k], four[2].first[k], four[3].first[k]);
        weight_tile[(16u + 4u * w + k) * 16u + quad] =
            vec4(four[0].second[k], four[1].second[k], four[2].second[k], four[3].second[k]);
    }
}

fn load_inputs(place: Place, group: u32, thread: u32) {
    for (var at = thread; at < 4u * QUADS; at += THREADS) {
        let quad = at % QUADS;
        let w = at / QUADS;
        var four: array<Inputs, 4>;
        for (var i = 0u; i < 4u; i++) {
            let row = source_row(place.first + min(4u * quad + i, place.n_rows - 1u));
            four[i] = inputs_at(row * parameters.in_stride + place.in_at, group, w);
        }
        for (var k = 0u; k < 4u; k++) {
            input_tile[(4u * w + k) * QUADS + quad] =
                vec4(four[0].first[k], four[1].first[k], four[2].first[k], four[3].first[k]);
            input_tile[(16u + 4u * w + k) * QUADS + quad] =
                vec4(four[0].second[k], four[1].second[k], four[2].second[k], four[3].second[k]);
        }
    }
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
    // Of row `i` columns 4x to 4x + 3 at 2i, columns 32 + 4x to 32 + 4x + 3 after it.
    var sums: array<vec4<value>, CELLS>;
    // What sums of RUN products in f16 add up to.
    var totals: array<vec4<f32>, CELLS>;
    for (var g = 0u; g < parameters.n_groups; g++) {
        load_weights(place, first_column, g, thread);
        load_inputs(place, g, thread);
        workgroupBarrier();
        for (var first_k = 0u; first_k < 32u; first_k += RUN) {
            for (var k = first_k; k < first_k + RUN; k++) {
                let first = weight_tile[16u * k + x];
                let second = weight_tile[16u * k + 8u + x];
                for (var quad = 0u; quad < ROW_QUADS; quad++) {
                    let inputs = input_tile[QUADS * k + 8u * quad + y];
                    for (var i = 0u; i < 4u; i++) {
                        sums[8u * quad + 2u * i] += inputs[i] * first;
                        sums[8u * quad + 2u * i + 1u] += inputs[i] * second;
                    }
                }
            }
            if NARROW {
                for (var i = 0u; i < CELLS; i++) {
                    totals[i] += vec4<f32>(sums[i]);
                    sums[i] = vec4<value>();
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < CELLS; i++) {
        totals[i] += vec4<f32>(sums[i]);
        let row = 4u * (8u * (i / 8u) + y) + (i % 8u) / 2u;
        if row >= place.n_rows { continue; }
        for (var j = 0u; j < 4u; j++) {
            let column = first_column + 32u * (i % 2u) + 4u * x + j;
            if column < parameters.n_columns { finish(place, row, column, totals[i][j]); }
        }
    }
}
