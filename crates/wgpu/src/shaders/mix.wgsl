// sums[i] = sum over j of weights[i * n_all + first + j] * inputs[j] for up to four
// inputs, or that added to what the sums hold: the sums of all inputs are complete before
// `mix_out.wgsl` writes any output.

override n_outputs: u32;
// Inputs of the step, and which of them are bound.
override n_all: u32;
override first: u32;
override n_bound: u32;
override width: u32;
override weights_width: u32;
// Values per row of the inputs.
override width_0: u32;
override width_1: u32;
override width_2: u32;
override width_3: u32;

@group(0) @binding(0) var<storage, read> input_0: array<f32>;
@group(0) @binding(1) var<storage, read> input_1: array<f32>;
@group(0) @binding(2) var<storage, read> input_2: array<f32>;
@group(0) @binding(3) var<storage, read> input_3: array<f32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
// `[rows, n_outputs, width]`
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    var values = vec4<f32>(input_0[id.y * width_0 + id.x], 0.0, 0.0, 0.0);
    if n_bound > 1u { values.y = input_1[id.y * width_1 + id.x]; }
    if n_bound > 2u { values.z = input_2[id.y * width_2 + id.x]; }
    if n_bound > 3u { values.w = input_3[id.y * width_3 + id.x]; }
    for (var i = 0u; i < n_outputs; i++) {
        let at = (id.y * n_outputs + i) * width + id.x;
        var sum = 0.0;
        if first > 0u { sum = sums[at]; }
        for (var j = 0u; j < n_bound; j++) {
            sum += weights[id.y * weights_width + i * n_all + first + j] * values[j];
        }
        sums[at] = sum;
    }
}
