//! Decoders with layer norms.

use super::tensors::*;
use super::{Family, LAYER};

const ALL_BIASES: &[&[Tensor]] =
    &[NORMS, NORM_BIASES, QKV, QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS];
const FULL_ALL_BIASES: &[&[Tensor]] =
    &[NORMS, NORM_BIASES, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS];
const SEPARATE_ALL_BIASES: &[&[Tensor]] =
    &[NORMS, NORM_BIASES, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS];

pub(super) fn families() -> Vec<Family> {
    [alibi(), learned(), parallel(), rotating()].concat()
}

/// With a term on the output norm.
fn biased(architecture: &'static str, layer: &[&'static [Tensor]]) -> Family {
    Family::new(architecture, LAYER, layer).whole(OUTPUT_NORM_BIAS)
}

fn full(family: Family) -> Family {
    family.key("attention.head_count_kv", 4u32)
}

fn alibi() -> Vec<Family> {
    let mpt = |layer| Family::new("mpt", LAYER, layer).key("attention.max_alibi_bias", 8f32);
    vec![
        full(biased("bloom", FULL_ALL_BIASES)).whole(EMBEDDING_NORM),
        full(biased("bloom", FULL_ALL_BIASES))
            .whole(EMBEDDING_NORM)
            .six_heads()
            .variant("six-heads"),
        mpt(&[NORMS, QKV, OUT, PLAIN]),
        full(mpt(&[NORMS, NORM_BIASES, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS]))
            .whole(OUTPUT_NORM_BIAS)
            .without("output.weight")
            .variant("biases"),
        mpt(&[NORMS, QKV, OUT, PLAIN]).key("attention.clamp_kqv", 1.5f32).variant("clamp"),
        full(biased(
            "jais",
            &[NORMS, NORM_BIASES, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, GATED, GATED_BIAS],
        ))
        .key("attention.max_alibi_bias", 8f32),
    ]
}

fn learned() -> Vec<Family> {
    vec![
        full(biased("gpt2", FULL_ALL_BIASES)).whole(POSITIONS),
        full(biased("gpt2", FULL_ALL_BIASES))
            .whole(POSITIONS)
            .without("output.weight")
            .variant("tied"),
        biased("starcoder", ALL_BIASES).whole(POSITIONS),
        biased(
            "starcoder",
            &[
                NORMS,
                NORM_BIASES,
                ONE_KV_HEAD_QKV,
                ONE_KV_HEAD_QKV_BIAS,
                OUT,
                OUT_BIAS,
                PLAIN,
                PLAIN_BIAS,
            ],
        )
        .key("attention.head_count_kv", 1u32)
        .whole(POSITIONS)
        .variant("one-kv-head"),
    ]
}

fn parallel() -> Vec<Family> {
    let one_norm: &[&[Tensor]] = &[ATTN_NORM, Q_K_V, OUT, GATED];
    let neox = |parallel: bool| {
        full(biased("gptneox", FULL_ALL_BIASES))
            .key("use_parallel_residual", parallel)
            .key("rope.dimension_count", 4u32)
    };
    let falcon = |layer| biased("falcon", layer);
    vec![
        Family::new("command-r", LAYER, one_norm)
            .without("output.weight")
            .key("logit_scale", 0.7f32),
        Family::new("command-r", LAYER, &[ATTN_NORM, EACH_HEAD_NORMS, Q_K_V, OUT, GATED])
            .n_layers(64)
            .without("output.weight")
            .key("logit_scale", 0.7f32)
            .variant("qk-norms"),
        Family::new("cohere2", LAYER, one_norm)
            .without("output.weight")
            .key("logit_scale", 0.7f32)
            .key("attention.sliding_window_pattern", 2u32)
            .window()
            .variant("pattern"),
        Family::new("cohere2", LAYER, one_norm)
            .n_layers(5)
            .without("output.weight")
            .key("logit_scale", 0.7f32)
            .window(),
        falcon(&[ATTN_NORM, ATTN_NORM_BIAS, QKV, OUT, PLAIN]),
        falcon(&[ATTN_NORM, ATTN_NORM_BIAS, ONE_KV_HEAD_QKV, OUT, PLAIN])
            .key("attention.head_count_kv", 1u32)
            .variant("7b"),
        falcon(&[ATTN_NORM, ATTN_NORM_BIAS, SECOND_NORM, QKV, OUT, PLAIN])
            .without("output.weight")
            .variant("40b"),
        neox(true),
        neox(false).variant("sequential"),
        biased(
            "phi2",
            &[ATTN_NORM, ATTN_NORM_BIAS, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS],
        )
        .key("attention.head_count_kv", 4u32)
        .whole(OUTPUT_BIAS)
        .key("rope.dimension_count", 8u32),
        biased(
            "phi2",
            &[ATTN_NORM, ATTN_NORM_BIAS, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS],
        )
        .whole(OUTPUT_BIAS)
        .key("rope.dimension_count", 8u32)
        .variant("separate"),
        biased("stablelm", &[ATTN_NORM, ATTN_NORM_BIAS, EACH_HEAD_NORMS, Q_K_V, OUT, GATED])
            .key("use_parallel_residual", true)
            .key("rope.dimension_count", 4u32)
            .variant("12b"),
        biased("stablelm", &[NORMS, NORM_BIASES, Q_K_V, Q_K_V_BIAS, OUT, GATED])
            .key("use_parallel_residual", false)
            .key("rope.dimension_count", 4u32)
            .variant("biases"),
        biased("stablelm", &[NORMS, NORM_BIASES, Q_K_V, OUT, GATED])
            .key("use_parallel_residual", true)
            .key("rope.dimension_count", 4u32)
            .variant("3b"),
    ]
}

fn rotating() -> Vec<Family> {
    let olmo = || Family::new("olmo", LAYER, &[Q_K_V, OUT, GATED]).without("output_norm.weight");
    vec![
        olmo(),
        olmo().key("attention.clamp_kqv", 1.5f32).without("output.weight").variant("clamp"),
        biased("nemotron", &[NORMS, NORM_BIASES, Q_K_V, OUT, PLAIN])
            .key("rope.dimension_count", 8u32),
        biased("jais2", SEPARATE_ALL_BIASES),
        biased("orion", &[NORMS, NORM_BIASES, Q_K_V, OUT, GATED]),
        biased("codeshell", ALL_BIASES),
        biased("starcoder2", SEPARATE_ALL_BIASES),
        biased("starcoder2", SEPARATE_ALL_BIASES).without("output.weight").variant("tied"),
    ]
}
