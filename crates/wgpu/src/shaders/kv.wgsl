// Where keys and values lie, counted in quads, of which a head fills a whole number:
// pages one after another, in each page the keys of all its positions, then the values
// of all its positions. A layer's heads may be dealt out to several buffers: this is one of them.

override page_tokens: u32;
// Heads of the buffer, and which of the layer's is the first of them.
override n_kv_heads: u32;
override first_kv_head: u32;
override key_width: u32;
override value_width: u32;
// Quads of a head.
override key_quads: u32;
override value_quads: u32;

fn page_start(row: u32, at_position: u32) -> u32 {
    let page_quads = page_tokens * n_kv_heads * (key_quads + value_quads);
    return page(row, at_position / page_tokens) * page_quads;
}

// `kv_head` counts from the buffer's first.
fn key_at(row: u32, at_position: u32, kv_head: u32) -> u32 {
    let slot = at_position % page_tokens;
    return page_start(row, at_position) + (slot * n_kv_heads + kv_head) * key_quads;
}

fn value_at(row: u32, at_position: u32, kv_head: u32) -> u32 {
    let slot = at_position % page_tokens;
    return page_start(row, at_position) + page_tokens * n_kv_heads * key_quads
        + (slot * n_kv_heads + kv_head) * value_quads;
}
