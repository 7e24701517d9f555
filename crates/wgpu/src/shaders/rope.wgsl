// Rotates one head of one row per workgroup, in place.

override key_width: u32;
override row_width: u32;

@group(0) @binding(1) var<storage, read_write> heads: array<f32>;

var<workgroup> head: array<f32, key_width>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * row_width + group.x * key_width;
    for (var i = thread; i < key_width; i += THREADS) {
        head[i] = heads[first + i];
    }
    workgroupBarrier();
    rotate(position(group.y), thread);
    workgroupBarrier();
    for (var i = thread; i < key_width; i += THREADS) {
        heads[first + i] = head[i];
    }
}
