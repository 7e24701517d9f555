// A matrix per head, each of its own part of every row of the batch.

fn place_of(group: vec3<u32>, groups: vec3<u32>) -> Place {
    let n_rows = n_batch_rows();
    let first = group.y * ROWS;
    let head = parameters.first_matrix + group.z;
    var place: Place;
    place.column_block = group.x;
    place.weight_row = group.z * parameters.matrix_rows + parameters.first_row;
    place.in_at = head * parameters.in_step;
    place.out_at = head * parameters.out_step;
    place.first = first;
    place.n_rows = min(max(n_rows, first) - first, ROWS);
    place.factor = 1.0;
    return place;
}

fn source_row(item: u32) -> u32 { return item; }
fn result_row(item: u32) -> u32 { return item; }
fn item_factor(item: u32) -> f32 { return 1.0; }
