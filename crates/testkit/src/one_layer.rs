//! The smallest sound model: a Llama of one layer, 32 wide, with 8 tokens.

/// Keys below the architecture, besides [`FLOAT_KEYS`].
pub const KEYS: [(&str, u32); 6] = [
    ("block_count", 1),
    ("context_length", 64),
    ("embedding_length", 32),
    ("feed_forward_length", 64),
    ("attention.head_count", 4),
    ("attention.head_count_kv", 2),
];

/// Keys below the architecture whose values are no counts.
pub const FLOAT_KEYS: [(&str, f32); 2] =
    [("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 10_000.0)];

/// Tensors and their shapes.
pub const TENSORS: [(&str, &[usize]); 11] = [
    ("token_embd.weight", &[32, 8]),
    ("output_norm.weight", &[32]),
    ("blk.0.attn_norm.weight", &[32]),
    ("blk.0.attn_q.weight", &[32, 32]),
    ("blk.0.attn_k.weight", &[32, 16]),
    ("blk.0.attn_v.weight", &[32, 16]),
    ("blk.0.attn_output.weight", &[32, 32]),
    ("blk.0.ffn_norm.weight", &[32]),
    ("blk.0.ffn_gate.weight", &[32, 64]),
    ("blk.0.ffn_up.weight", &[32, 64]),
    ("blk.0.ffn_down.weight", &[64, 32]),
];
