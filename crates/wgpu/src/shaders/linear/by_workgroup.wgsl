// Sums over the workgroup in its memory.

var<workgroup> partials: array<f32, SUMS * THREADS>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let place = place_of(group, groups);
    let first_column = place.column_block * COLUMNS;
    if place.n_rows == 0u || first_column >= parameters.n_columns { return; }
    let sums = own_sums(place, first_column, thread);
    for (var i = 0u; i < SUMS; i++) {
        partials[i * THREADS + thread] = sums[i];
    }
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if thread < reach {
            for (var i = 0u; i < SUMS; i++) {
                let at = i * THREADS + thread;
                partials[at] += partials[at + reach];
            }
        }
        workgroupBarrier();
    }
    if thread < SUMS { finish_sum(place, first_column, thread, partials[thread * THREADS]); }
}
