// out = a_scale * a + scale * b

override width: u32;
// Values per row of the slots.
override b_width: u32;
override out_width: u32;
override a_scale: f32;
override scale: f32;
// Slots that are `out`, which is bound only once.
override a_in_place: bool;
override b_in_place: bool;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    let at = id.y * out_width + id.x;
    var first: f32;
    if a_in_place { first = out[at]; } else { first = a[id.y * width + id.x]; }
    var second: f32;
    if b_in_place { second = out[at]; } else { second = b[id.y * b_width + id.x]; }
    out[at] = a_scale * first + scale * second;
}
