// One matrix and all rows of the batch. A grid wider than allowed goes on in depth.

fn place_of(group: vec3<u32>, groups: vec3<u32>) -> Place {
    let n_rows = select(n_batch_rows(), n_output_rows(), has(OF_OUTPUTS));
    let first = group.y * ROWS;
    var place: Place;
    place.column_block = group.x + group.z * groups.x;
    place.weight_row = parameters.first_row;
    place.out_at = parameters.first_column;
    place.bias_at = parameters.first_column;
    place.first = first;
    place.n_rows = min(max(n_rows, first) - first, ROWS);
    place.factor = 1.0;
    return place;
}

fn source_row(item: u32) -> u32 { return item; }
fn result_row(item: u32) -> u32 { return item; }
fn item_factor(item: u32) -> f32 { return 1.0; }
