// Tiles that `group_choices.wgsl` made.

@group(0) @binding(7) var<storage, read> tiles: array<u32>;

fn place_of(group: vec3<u32>, groups: vec3<u32>) -> Place {
    if group.y >= tiles[0] { return Place(); }
    let at = TILES_AT + TILE_WORDS * group.y;
    return place_of_tile(group.x, tiles[at], tiles[at + 1u], tiles[at + 2u]);
}

fn result_row(item: u32) -> u32 { return tiles[tiles[1] + item]; }
