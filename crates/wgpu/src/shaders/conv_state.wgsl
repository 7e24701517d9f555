// Keeps the last inputs of a sequence for `conv.wgsl`, one thread per column.

override width: u32;
override taps: u32;
override input_width: u32;

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> states: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let n_rows = sequence_rows(id.y);
    if column >= width || n_rows == 0u { return; }
    let first = first_row(id.y);
    let state = state_of(id.y) * (taps - 1u) * width;
    let is_new = position(first) == 0u;
    // Ascending: what is read was not written yet.
    for (var i = 0u; i < taps - 1u; i++) {
        let at = n_rows + i;
        var value = 0.0;
        if at >= taps - 1u {
            value = input[(first + at - (taps - 1u)) * input_width + column];
        } else if !is_new {
            value = states[state + at * width + column];
        }
        states[state + i * width + column] = value;
    }
}
