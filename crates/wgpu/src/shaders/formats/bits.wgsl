// Planes of quants (written by `weight/repack.rs`, which documents them). Each function
// gives the bits of two words of a group, `w` and `w + 4`, of which every byte is one value:
// values 4w to 4w + 3 and 16 + 4w to 16 + 4w + 3. `at` is where the plane begins.

fn bits_1(at: u32, group: u32, w: u32) -> vec2<u32> {
    return (vec2(data[at + group]) >> vec2(w, w + 4u)) & vec2(0x01010101u);
}

fn bits_2(at: u32, group: u32, w: u32) -> vec2<u32> {
    let words = vec2(data[at + 2u * group], data[at + 2u * group + 1u]);
    return (words >> vec2(2u * w)) & vec2(0x03030303u);
}

fn bits_4(at: u32, group: u32, w: u32) -> vec2<u32> {
    return (vec2(data[at + 4u * group + w]) >> vec2(0u, 4u)) & vec2(0x0f0f0f0fu);
}

fn bits_8(at: u32, group: u32, w: u32) -> vec2<u32> {
    return vec2(data[at + 8u * group + w], data[at + 8u * group + 4u + w]);
}
