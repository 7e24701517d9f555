// The values of a slot, as their bits.

@group(0) @binding(0) var<storage, read> values: array<u32>;

fn load(row_start: u32, at: u32) -> vec2<u32> {
    return vec2<u32>(at, rank_of(values[row_start + at]));
}
