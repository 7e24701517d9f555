// x = max(x - mean - deviations * deviation, 0) over the first values of a row, in place;
// one workgroup per row.

override width: u32;
override row_width: u32;
override deviations: f32;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * row_width;
    var sum = 0.0;
    for (var i = thread; i < width; i += THREADS) {
        sum += values[first + i];
    }
    let mean = workgroup_sum(sum, thread) / f32(width);
    var squares = 0.0;
    for (var i = thread; i < width; i += THREADS) {
        let value = values[first + i] - mean;
        squares += value * value;
    }
    let deviation = sqrt(workgroup_sum(squares, thread) / f32(width - 1u));
    for (var i = thread; i < width; i += THREADS) {
        values[first + i] = max(values[first + i] - mean - deviations * deviation, 0.0);
    }
}
