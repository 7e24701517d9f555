// COLUMNS columns of up to ROWS rows per workgroup: its threads walk along the rows of the
// weight side by side, 8 values each, and use an input for all columns.

const COLUMNS: u32 = 4u;
const SUMS: u32 = COLUMNS * ROWS;

fn own_sums(place: Place, first_column: u32, thread: u32) -> array<f32, SUMS> {
    var sums: array<f32, SUMS>;
    for (var at = thread; at < 4u * parameters.n_groups; at += THREADS) {
        let group = at / 4u;
        let w = at % 4u;
        var inputs: array<Inputs, ROWS>;
        for (var i = 0u; i < ROWS; i++) {
            // Beyond the last row, its inputs again.
            let row = source_row(place.first + min(i, place.n_rows - 1u));
            inputs[i] = inputs_at(row * parameters.in_stride + place.in_at, group, w);
        }
        for (var j = 0u; j < COLUMNS; j++) {
            let column = min(first_column + j, parameters.n_columns - 1u);
            let weights = weights_at(place.weight_row + column, group, w);
            for (var i = 0u; i < ROWS; i++) {
                sums[j * ROWS + i] += product_of(weights, inputs[i]);
            }
        }
    }
    return sums;
}

fn finish_sum(place: Place, first_column: u32, index: u32, sum: f32) {
    let column = first_column + index / ROWS;
    let row = index % ROWS;
    if column < parameters.n_columns && row < place.n_rows { finish(place, row, column, sum); }
}
