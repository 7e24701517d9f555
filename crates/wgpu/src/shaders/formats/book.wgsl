// Nibbles as places in a list of 16 signed bytes, BOOK.

fn book(nibbles: u32) -> u32 {
    let place = (vec4(nibbles) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u);
    let upper = (place & vec4(4u)) != vec4(0u);
    let first = select(vec4(BOOK.x), vec4(BOOK.y), upper);
    let second = select(vec4(BOOK.z), vec4(BOOK.w), upper);
    let word = select(first, second, (place & vec4(8u)) != vec4(0u));
    let byte = (word >> (8u * (place & vec4(3u)))) & vec4(0xffu);
    return byte.x | (byte.y << 8u) | (byte.z << 16u) | (byte.w << 24u);
}

fn books(nibbles: vec2<u32>) -> vec2<u32> { return vec2(book(nibbles.x), book(nibbles.y)); }
