// Sums over each subgroup by its own means, then over the subgroups in workgroup memory. A
// subgroup has at least 4 threads, which are neighbours: the known answers depend on it.

const SUBGROUPS: u32 = THREADS / 4u;

var<workgroup> partials: array<f32, SUMS * SUBGROUPS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let place = place_of(group, groups);
    let first_column = place.column_block * COLUMNS;
    if place.n_rows == 0u || first_column >= parameters.n_columns { return; }
    let sums = own_sums(place, first_column, thread);
    for (var i = 0u; i < SUMS; i++) {
        let sum = subgroupAdd(sums[i]);
        if lane == 0u { partials[i * SUBGROUPS + thread / size] = sum; }
    }
    workgroupBarrier();
    if thread < SUMS {
        var sum = 0.0;
        for (var i = 0u; i * size < THREADS; i++) {
            sum += partials[thread * SUBGROUPS + i];
        }
        finish_sum(place, first_column, thread, sum);
    }
}
