//! Families whose widths no vector register divides.

use super::tensors::*;
use super::{Family, LAYER, RMS};

const LAYER_NORMS: &[&[Tensor]] =
    &[NORMS, NORM_BIASES, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS];
const FULL_LAYER_NORMS: &[&[Tensor]] =
    &[NORMS, NORM_BIASES, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS];

pub(super) fn families() -> Vec<Family> {
    let dense: &[&[Tensor]] = &[NORMS, Q_K_V, OUT, GATED];
    let headed: &[&[Tensor]] = &[NORMS, HEAD_NORMS, Q_K_V, OUT];
    let full = |family: Family| family.key("attention.head_count_kv", 4u32);
    let families = vec![
        Family::new("llama", RMS, dense).whole(ROPE_FREQS).without("output.weight"),
        Family::new("qwen2", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT, GATED]),
        Family::new("qwen3", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]).yarn(),
        Family::new("qwen3moe", RMS, headed).experts(&[EXPERTS]),
        Family::new("phi3", RMS, &[NORMS, QKV, OUT, JOINED]),
        Family::new("gemma3", RMS, &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED])
            .without("output.weight")
            .n_layers(7)
            .window(),
        Family::new("olmo2", RMS, &[POST_NORMS, ROW_NORMS, Q_K_V, OUT, GATED]),
        Family::new("granite", RMS, dense)
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.22f32)
            .key("attention.scale", 0.4f32)
            .key("logit_scale", 0.6f32),
        Family::new("exaone4", RMS, &[POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]),
        Family::new("command-r", LAYER, &[ATTN_NORM, Q_K_V, OUT, GATED])
            .without("output.weight")
            .key("logit_scale", 0.7f32),
        Family::new("starcoder2", LAYER, LAYER_NORMS).whole(OUTPUT_NORM_BIAS),
        full(Family::new("gpt2", LAYER, FULL_LAYER_NORMS)).whole(OUTPUT_NORM_BIAS).whole(POSITIONS),
        full(Family::new("bloom", LAYER, FULL_LAYER_NORMS))
            .whole(OUTPUT_NORM_BIAS)
            .whole(EMBEDDING_NORM),
        full(Family::new("gptneox", LAYER, FULL_LAYER_NORMS))
            .whole(OUTPUT_NORM_BIAS)
            .key("use_parallel_residual", true),
        Family::new("falcon", LAYER, &[ATTN_NORM, ATTN_NORM_BIAS, QKV, OUT, PLAIN])
            .whole(OUTPUT_NORM_BIAS),
    ];
    families.into_iter().map(|family| family.uneven().variant("uneven")).collect()
}
