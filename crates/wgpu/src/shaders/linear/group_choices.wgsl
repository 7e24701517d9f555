// Puts the choices of one expert together: tiles of up to TILE_ROWS choices, for `tiles.wgsl`.
// One workgroup does all: it counts, adds up, and deals out.

override n_experts: u32;
override n_used: u32;

@group(0) @binding(0) var<storage, read> choices: array<u32>;
// Number of tiles, where the order begins, the tiles (expert, first place in the order,
// number of choices), and the choices in their order.
@group(0) @binding(1) var<storage, read_write> tiles: array<u32>;

// Choices of each expert; later, where its next one goes.
var<workgroup> counts: array<atomic<u32>, n_experts>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    let n_choices = n_batch_rows() * n_used;
    for (var i = thread; i < n_experts; i += THREADS) {
        atomicStore(&counts[i], 0u);
    }
    workgroupBarrier();
    for (var i = thread; i < n_choices; i += THREADS) {
        atomicAdd(&counts[choices[i]], 1u);
    }
    workgroupBarrier();
    let order_at = TILES_AT + TILE_WORDS * (n_choices / TILE_ROWS + n_experts);
    if thread == 0u {
        var n_tiles = 0u;
        var first = 0u;
        for (var i = 0u; i < n_experts; i++) {
            let end = first + atomicLoad(&counts[i]);
            for (var at = first; at < end; at += TILE_ROWS) {
                let tile = TILES_AT + TILE_WORDS * n_tiles;
                tiles[tile] = i;
                tiles[tile + 1u] = at;
                tiles[tile + 2u] = min(end - at, TILE_ROWS);
                n_tiles++;
            }
            atomicStore(&counts[i], first);
            first = end;
        }
        tiles[0] = n_tiles;
        tiles[1] = order_at;
    }
    workgroupBarrier();
    for (var i = thread; i < n_choices; i += THREADS) {
        tiles[order_at + atomicAdd(&counts[choices[i]], 1u)] = i;
    }
}
