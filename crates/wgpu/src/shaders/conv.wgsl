// A causal convolution of each column with its own past, in two dispatches: one for all
// rows, one thread per value, and then `conv_state.wgsl`.

override width: u32;
override taps: u32;
// Values per row of the slots.
override input_width: u32;
override out_width: u32;
override has_bias: bool;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
// `[taps - 1, width]` per sequence: its last inputs.
@group(0) @binding(3) var<storage, read> states: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    if column >= width { return; }
    let own = sequence(id.y);
    let first = first_row(own);
    let state = state_of(own) * (taps - 1u) * width;
    let is_new = position(first) == 0u;
    var sum = 0.0;
    if has_bias { sum = bias[column]; }
    for (var tap = 0u; tap < taps; tap++) {
        // Rows since the sequence's first, and those before it.
        let at = id.y - first + tap;
        var value = 0.0;
        if at >= taps - 1u {
            value = input[(first + at - (taps - 1u)) * input_width + column];
        } else if !is_new {
            value = states[state + at * width + column];
        }
        sum += weight[column * taps + tap] * value;
    }
    out[id.y * out_width + column] = activate(sum);
}
