// out = norm(input) * weight + bias; one workgroup per group of a row.

// Groups of a row, each of `width` values, and the values of the whole row.
override groups: u32;
override width: u32;
override row_width: u32;
override epsilon: f32;
override layer_norm: bool;
override has_weight: bool;
override has_bias: bool;
// Each group has factors and terms of its own.
override own_weight: bool;
override own_bias: bool;
override in_place: bool;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn load(index: u32) -> f32 {
    if in_place { return out[index]; }
    return input[index];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y * row_width;
    let first = row + group.x * width;
    var mean = 0.0;
    if layer_norm {
        var sum = 0.0;
        for (var i = thread; i < width; i += THREADS) {
            sum += load(first + i);
        }
        mean = workgroup_sum(sum, thread) / f32(width);
    }
    var squares = 0.0;
    for (var i = thread; i < width; i += THREADS) {
        let value = load(first + i) - mean;
        squares += value * value;
    }
    let factor = 1.0 / sqrt(workgroup_sum(squares, thread) / f32(width) + epsilon);
    let own = group.x * width;
    for (var i = thread; i < width; i += THREADS) {
        var value = (load(first + i) - mean) * factor;
        if has_weight { value *= weight[select(0u, own, own_weight) + i]; }
        if has_bias { value += bias[select(0u, own, own_bias) + i]; }
        out[first + i] = value;
    }
    // What follows the groups is copied.
    if group.x == 0u && !in_place {
        for (var i = groups * width + thread; i < row_width; i += THREADS) {
            out[row + i] = input[row + i];
        }
    }
}
