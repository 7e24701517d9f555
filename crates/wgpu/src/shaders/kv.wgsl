// Where keys and values lie: pages one after another, in each page the keys of
// all its positions, then the values of all its positions.

override page_tokens: u32;
override n_kv_heads: u32;
override key_width: u32;
override value_width: u32;

fn page_start(row: u32, at_position: u32) -> u32 {
    let page_values = page_tokens * n_kv_heads * (key_width + value_width);
    return page(row, at_position / page_tokens) * page_values;
}

fn key_at(row: u32, at_position: u32, kv_head: u32) -> u32 {
    let slot = at_position % page_tokens;
    return page_start(row, at_position) + (slot * n_kv_heads + kv_head) * key_width;
}

fn value_at(row: u32, at_position: u32, kv_head: u32) -> u32 {
    let slot = at_position % page_tokens;
    return page_start(row, at_position) + page_tokens * n_kv_heads * key_width
        + (slot * n_kv_heads + kv_head) * value_width;
}
