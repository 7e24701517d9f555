//! Groups of tensors that families share.
//!
//! Widths: embedding 64; four heads of 16, two of keys and values; feed-forward 96;
//! vocabulary 32; four experts of 32, of which two are used, and a shared one of 32.

/// Name, behind `blk.N.` where it belongs to a layer, and shape.
pub type Tensor = (&'static str, &'static [usize]);

macro_rules! groups {
    ($($(#[$doc:meta])* $name:ident = [$($tensor:literal: $shape:expr),+ $(,)?];)+) => {$(
        $(#[$doc])*
        pub const $name: &[Tensor] = &[$(($tensor, &$shape)),+];
    )+};
}

groups! {
    /// What every decoder has outside of its layers.
    WHOLE = [
        "token_embd.weight": [64, 32],
        "output.weight": [64, 32],
        "output_norm.weight": [64],
    ];
    /// Term of the output norm.
    OUTPUT_NORM_BIAS = ["output_norm.bias": [64]];
    /// Norm of the embedding.
    EMBEDDING_NORM = ["token_embd_norm.weight": [64], "token_embd_norm.bias": [64]];
    /// Learned positions.
    POSITIONS = ["position_embd.weight": [64, 256]];

    /// A bias on logits.
    OUTPUT_BIAS = ["output.bias": [32]];
    /// Divisors of the rotation's frequencies.
    ROPE_FREQS = ["rope_freqs.weight": [8]];
    /// Divisors up to the original context, and beyond.
    ROPE_FACTORS = ["rope_factors_long.weight": [8], "rope_factors_short.weight": [8]];
    /// The same where 12 values of a head rotate.
    PARTIAL_ROPE_FACTORS = ["rope_factors_long.weight": [6], "rope_factors_short.weight": [6]];
    /// The same where 8 values of a head rotate.
    LATENT_ROPE_FACTORS = ["rope_factors_long.weight": [4], "rope_factors_short.weight": [4]];
    /// Vectors of token types.
    TOKEN_TYPES = ["token_types.weight": [64, 2]];

    /// Queries, keys and values.
    Q_K_V = ["attn_q.weight": [64, 64], "attn_k.weight": [64, 32], "attn_v.weight": [64, 32]];
    /// Their biases.
    Q_K_V_BIAS = ["attn_q.bias": [64], "attn_k.bias": [32], "attn_v.bias": [32]];
    /// As many keys and values as queries.
    FULL_Q_K_V = ["attn_q.weight": [64, 64], "attn_k.weight": [64, 64], "attn_v.weight": [64, 64]];
    /// Their biases.
    FULL_Q_K_V_BIAS = ["attn_q.bias": [64], "attn_k.bias": [64], "attn_v.bias": [64]];
    /// Each head's query and gate, keys and values.
    GATED_Q_K_V =
        ["attn_q.weight": [64, 128], "attn_k.weight": [64, 32], "attn_v.weight": [64, 32]];
    /// Queries, and a key and a value for all of them.
    ONE_KV_HEAD = ["attn_q.weight": [64, 64], "attn_k.weight": [64, 16], "attn_v.weight": [64, 16]];
    /// The same in one.
    ONE_KV_HEAD_QKV = ["attn_qkv.weight": [64, 96]];
    /// Its bias.
    ONE_KV_HEAD_QKV_BIAS = ["attn_qkv.bias": [96]];
    /// Queries, keys and values of 24 values per head.
    WIDE_Q_K_V = ["attn_q.weight": [64, 96], "attn_k.weight": [64, 48], "attn_v.weight": [64, 48]];
    /// Their output matrix.
    WIDE_OUT = ["attn_output.weight": [96, 64]];
    /// Their norms.
    WIDE_HEAD_NORMS = ["attn_q_norm.weight": [24], "attn_k_norm.weight": [24]];
    /// Six heads, three of keys and values, in one.
    BIG_QKV = ["attn_qkv.weight": [64, 192]];
    /// Their output matrix.
    BIG_OUT = ["attn_output.weight": [96, 64]];
    /// Queries, keys and values in one.
    QKV = ["attn_qkv.weight": [64, 128]];
    /// Their bias.
    QKV_BIAS = ["attn_qkv.bias": [128]];
    /// As many keys and values as queries, in one.
    FULL_QKV = ["attn_qkv.weight": [64, 192]];
    /// Their bias.
    FULL_QKV_BIAS = ["attn_qkv.bias": [192]];
    /// Attention's output matrix.
    OUT = ["attn_output.weight": [64, 64]];
    /// Its bias.
    OUT_BIAS = ["attn_output.bias": [64]];

    /// Norms before attention and feed-forward.
    NORMS = ["attn_norm.weight": [64], "ffn_norm.weight": [64]];
    /// Their terms.
    NORM_BIASES = ["attn_norm.bias": [64], "ffn_norm.bias": [64]];
    /// The norm before attention.
    ATTN_NORM = ["attn_norm.weight": [64]];
    /// Its term.
    ATTN_NORM_BIAS = ["attn_norm.bias": [64]];
    /// The norm behind attention, or before feed-forward.
    POST_ATTENTION_NORM = ["post_attention_norm.weight": [64]];
    /// Norms behind attention and feed-forward.
    POST_NORMS = ["post_attention_norm.weight": [64], "post_ffw_norm.weight": [64]];
    /// Norms of heads.
    HEAD_NORMS = ["attn_q_norm.weight": [16], "attn_k_norm.weight": [16]];
    /// Norms over all queries and all keys.
    ROW_NORMS = ["attn_q_norm.weight": [64], "attn_k_norm.weight": [32]];
    /// The same with as many keys as queries.
    FULL_ROW_NORMS = ["attn_q_norm.weight": [64], "attn_k_norm.weight": [64]];
    /// Their terms.
    FULL_ROW_NORM_BIASES = ["attn_q_norm.bias": [64], "attn_k_norm.bias": [64]];
    /// Norms of heads with factors of their own.
    EACH_HEAD_NORMS = ["attn_q_norm.weight": [16, 4], "attn_k_norm.weight": [16, 2]];
    /// A norm of attention beside the feed-forward part's.
    SECOND_NORM = ["attn_norm_2.weight": [64], "attn_norm_2.bias": [64]];
    /// Norms before the output matrices.
    SUB_NORMS = ["attn_sub_norm.weight": [64], "ffn_sub_norm.weight": [96]];

    /// Norms behind attention and feed-forward, of the sum.
    OUTPUT_NORMS = [
        "attn_output_norm.weight": [64],
        "attn_output_norm.bias": [64],
        "layer_output_norm.weight": [64],
        "layer_output_norm.bias": [64],
    ];
    /// A gate on attention's result.
    ATTENTION_GATE = ["attn_gate.weight": [64, 64]];
    /// A score per head without a value.
    SINKS = ["attn_sinks.weight": [4]];

    /// A gated feed-forward part.
    GATED = [
        "ffn_gate.weight": [64, 96],
        "ffn_up.weight": [64, 96],
        "ffn_down.weight": [96, 64],
    ];
    /// A wider one.
    BIG_GATED = [
        "ffn_gate.weight": [64, 128],
        "ffn_up.weight": [64, 128],
        "ffn_down.weight": [128, 64],
    ];
    /// Its biases.
    GATED_BIAS = ["ffn_gate.bias": [96], "ffn_up.bias": [96], "ffn_down.bias": [64]];
    /// Gate and up in one.
    JOINED = ["ffn_up.weight": [64, 192], "ffn_down.weight": [96, 64]];
    /// A feed-forward part without gate.
    PLAIN = ["ffn_up.weight": [64, 96], "ffn_down.weight": [96, 64]];
    /// Its biases.
    PLAIN_BIAS = ["ffn_up.bias": [96], "ffn_down.bias": [64]];

    /// Factors beside matrices.
    MATRIX_SCALES = [
        "attn_q.scale": [1],
        "attn_k.scale": [1],
        "attn_v.scale": [1],
        "attn_output.scale": [1],
        "ffn_gate.scale": [1],
        "ffn_up.scale": [1],
        "ffn_down.scale": [1],
    ];
    /// What a block that predicts further tokens has beside a layer.
    NEXT_TOKENS = [
        "nextn.eh_proj.weight": [128, 64],
        "nextn.enorm.weight": [64],
        "nextn.hnorm.weight": [64],
        "nextn.shared_head_norm.weight": [64],
    ];
    /// A bias of the down matrix alone.
    FFN_DOWN_BIAS = ["ffn_down.bias": [64]];

    /// Experts.
    EXPERTS = [
        "ffn_gate_inp.weight": [64, 4],
        "ffn_gate_exps.weight": [64, 32, 4],
        "ffn_up_exps.weight": [64, 32, 4],
        "ffn_down_exps.weight": [32, 64, 4],
    ];
    /// Twice as many.
    EIGHT_EXPERTS = [
        "ffn_gate_inp.weight": [64, 8],
        "ffn_gate_exps.weight": [64, 32, 8],
        "ffn_up_exps.weight": [64, 32, 8],
        "ffn_down_exps.weight": [32, 64, 8],
    ];
    /// A bias on the choice of these.
    EIGHT_CHOICE_BIAS = ["exp_probs_b.bias": [8]];
    /// Their biases, and the router's.
    EXPERT_BIASES = [
        "ffn_gate_inp.bias": [4],
        "ffn_gate_exps.bias": [32, 4],
        "ffn_up_exps.bias": [32, 4],
        "ffn_down_exps.bias": [64, 4],
    ];
    /// Experts without gates.
    UNGATED_EXPERTS = [
        "ffn_gate_inp.weight": [64, 4],
        "ffn_up_exps.weight": [64, 96, 4],
        "ffn_down_exps.weight": [96, 64, 4],
    ];
    /// A bias on the choice of experts.
    CHOICE_BIAS = ["exp_probs_b.bias": [4]];
    /// A shared expert.
    SHARED = [
        "ffn_gate_shexp.weight": [64, 32],
        "ffn_up_shexp.weight": [64, 32],
        "ffn_down_shexp.weight": [32, 64],
    ];

    /// A gate on the shared expert.
    SHARED_GATE = ["ffn_gate_inp_shexp.weight": [64]];

    /// Queries beside a latent of keys and values.
    Q = ["attn_q.weight": [64, 64]];
    /// Queries from a latent of 48.
    Q_LATENT = [
        "attn_q_a.weight": [64, 48],
        "attn_q_a_norm.weight": [48],
        "attn_q_b.weight": [48, 64],
    ];
    /// The latent of 32 of keys and values, and 8 values that rotate.
    KV_LATENT = ["attn_kv_a_mqa.weight": [64, 40], "attn_kv_a_norm.weight": [32]];
    /// Heads of 8 plain values of keys and 16 of values from the latent, in one.
    JOINT_LATENT = ["attn_kv_b.weight": [32, 96]];
    /// The same in two.
    SPLIT_LATENT = ["attn_k_b.weight": [8, 32, 4], "attn_v_b.weight": [32, 16, 4]];

    /// A gated short convolution.
    SHORT_CONV = [
        "shortconv.in_proj.weight": [64, 192],
        "shortconv.conv.weight": [3, 64],
        "shortconv.out_proj.weight": [64, 64],
    ];
    /// A gated delta rule: two key heads and four value heads of 16.
    DELTA_NET = [
        "attn_qkv.weight": [64, 128],
        "attn_gate.weight": [64, 64],
        "ssm_alpha.weight": [64, 4],
        "ssm_beta.weight": [64, 4],
        "ssm_conv1d.weight": [4, 128],
        "ssm_a": [4],
        "ssm_dt.bias": [4],
        "ssm_norm.weight": [16],
        "ssm_out.weight": [64, 64],
    ];
    /// The same, of each key head its value heads' beta and alpha in one.
    DELTA_NET_JOINED = [
        "attn_qkv.weight": [64, 128],
        "attn_gate.weight": [64, 64],
        "ssm_ba.weight": [64, 8],
        "ssm_conv1d.weight": [4, 128],
        "ssm_a": [4],
        "ssm_dt.bias": [4],
        "ssm_norm.weight": [16],
        "ssm_out.weight": [64, 64],
    ];
    /// Mamba: 128 values that keep 16 each, time steps from a latent of 4.
    MAMBA = [
        "ssm_in.weight": [64, 256],
        "ssm_conv1d.weight": [4, 128],
        "ssm_conv1d.bias": [128],
        "ssm_x.weight": [128, 36],
        "ssm_dt.weight": [4, 128],
        "ssm_dt.bias": [128],
        "ssm_a": [16, 128],
        "ssm_d": [128],
        "ssm_out.weight": [128, 64],
    ];
    /// Norms of what Mamba's scan reads.
    MAMBA_NORMS =
        ["ssm_dt_norm.weight": [4], "ssm_b_norm.weight": [16], "ssm_c_norm.weight": [16]];
    /// Mamba 2: four heads of 32 values that keep 16 each, in two groups.
    MAMBA2 = [
        "ssm_in.weight": [64, 324],
        "ssm_conv1d.weight": [4, 192],
        "ssm_conv1d.bias": [192],
        "ssm_dt.bias": [4],
        "ssm_a": [1, 4],
        "ssm_d": [1, 4],
        "ssm_norm.weight": [64, 2],
        "ssm_out.weight": [128, 64],
    ];

    /// Experts as wide as a dense part.
    WIDE_EXPERTS = [
        "ffn_gate_inp.weight": [64, 4],
        "ffn_gate_exps.weight": [64, 96, 4],
        "ffn_up_exps.weight": [64, 96, 4],
        "ffn_down_exps.weight": [96, 64, 4],
    ];
    /// Experts with gate and up in one.
    JOINED_EXPERTS = [
        "ffn_gate_inp.weight": [64, 4],
        "ffn_gate_up_exps.weight": [64, 64, 4],
        "ffn_down_exps.weight": [32, 64, 4],
    ];
    /// A factor per expert on each product.
    EXPERT_SCALES = [
        "ffn_gate_exps.scale": [4],
        "ffn_up_exps.scale": [4],
        "ffn_down_exps.scale": [4],
    ];
    /// Experts without gates, and a shared one.
    UNGATED_SHARED = ["ffn_up_shexp.weight": [64, 32], "ffn_down_shexp.weight": [32, 64]];
    /// Narrow experts without gates.
    NARROW_UNGATED_EXPERTS = [
        "ffn_gate_inp.weight": [64, 4],
        "ffn_up_exps.weight": [64, 32, 4],
        "ffn_down_exps.weight": [32, 64, 4],
    ];
    /// A bias on the choice of experts, whose name has no suffix.
    BARE_CHOICE_BIAS = ["exp_probs_b": [4]];
    /// The norm before the feed-forward part.
    FFN_NORM = ["ffn_norm.weight": [64]];
    /// The same without a suffix.
    BARE_FFN_NORM = ["ffn_norm": [64]];
    /// Norms behind attention and feed-forward, whose names have no suffix.
    BARE_POST_NORMS = ["post_attention_norm": [64], "post_ffw_norm": [64]];
    /// The norm behind attention, or before feed-forward.
    ATTN_OUTPUT_NORM = ["attn_output_norm.weight": [64]];
}
