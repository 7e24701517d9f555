// out = act(gate) * up, or act(gate).

override width: u32;
// Values per row of the slots.
override gate_width: u32;
override up_width: u32;
override up_offset: u32;
override has_up: bool;
// `gate` is `out`, which is bound only once.
override gate_in_place: bool;

@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    let at = id.y * width + id.x;
    let gate_at = id.y * gate_width + select(id.x, 0u, gate_width == 1u);
    var value: f32;
    if gate_in_place { value = activate(out[gate_at]); } else { value = activate(gate[gate_at]); }
    if has_up { value *= factor_of(up[id.y * up_width + up_offset + id.x]); }
    out[at] = value;
}
