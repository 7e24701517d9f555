// Sum and maximum over the threads of a workgroup of THREADS, given to all of them.

var<workgroup> partials: array<f32, THREADS>;

fn workgroup_sum(value: f32, thread: u32) -> f32 {
    partials[thread] = value;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if thread < reach {
            partials[thread] += partials[thread + reach];
        }
        workgroupBarrier();
    }
    let sum = partials[0];
    workgroupBarrier();
    return sum;
}

fn workgroup_max(value: f32, thread: u32) -> f32 {
    partials[thread] = value;
    workgroupBarrier();
    for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
        if thread < reach {
            partials[thread] = max(partials[thread], partials[thread + reach]);
        }
        workgroupBarrier();
    }
    let result = partials[0];
    workgroupBarrier();
    return result;
}
