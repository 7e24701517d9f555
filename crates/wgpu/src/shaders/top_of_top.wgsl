// What was best in several chunks.

@group(0) @binding(0) var<storage, read> values: array<vec2<u32>>;

fn load(row_start: u32, at: u32) -> vec2<u32> {
    let value = values[row_start + at];
    if value.x == NOTHING { return vec2<u32>(NOTHING, 0u); }
    return vec2<u32>(value.x, rank_of(value.y));
}
