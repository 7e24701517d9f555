// A matrix per expert. Results have a row for every choice of every row of the batch; a
// workgroup makes those of a tile: choices of one expert.

// Per choice of a row, all of the first row first.
@group(0) @binding(5) var<storage, read> choice_weights: array<f32>;
// Factors on products, one per expert.
@group(0) @binding(6) var<storage, read> matrix_scales: array<f32>;

fn place_of_tile(column_block: u32, expert: u32, first: u32, n_choices: u32) -> Place {
    var place: Place;
    let matrix = expert - parameters.first_matrix;
    if expert < parameters.first_matrix || matrix >= parameters.n_matrices { return place; }
    place.column_block = column_block;
    place.weight_row = matrix * parameters.matrix_rows + parameters.first_row;
    place.out_at = parameters.first_column;
    place.bias_at = expert * parameters.n_columns;
    place.first = first;
    place.n_rows = n_choices;
    place.factor = 1.0;
    if has(HAS_MATRIX_SCALE) { place.factor = matrix_scales[expert]; }
    return place;
}

fn item_factor(item: u32) -> f32 {
    if has(WEIGH_INPUT) { return choice_weights[result_row(item)]; }
    return 1.0;
}
fn source_row(item: u32) -> u32 { return result_row(item) / parameters.outputs_per_input; }
