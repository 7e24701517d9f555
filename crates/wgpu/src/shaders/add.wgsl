// out = a_scale * a + scale * b

// Values per row of every slot.
override width: u32;
override a_scale: f32;
override scale: f32;
// `a` is `out`, which is bound only once.
override a_in_place: bool;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    let at = id.y * width + id.x;
    var first: f32;
    if a_in_place { first = out[at]; } else { first = a[at]; }
    out[at] = a_scale * first + scale * b[at];
}
