//! Dense decoders with RMS norms.

use super::tensors::*;
use super::{Family, RMS};

const SEPARATE: &[&[Tensor]] = &[NORMS, Q_K_V, OUT, GATED];
const BIASED: &[&[Tensor]] = &[NORMS, Q_K_V, Q_K_V_BIAS, OUT, GATED];
const FUSED: &[&[Tensor]] = &[NORMS, QKV, OUT, JOINED];
/// Heads of 24 values, which is not the embedding's width over their number.
const WIDE: &[&[Tensor]] = &[NORMS, WIDE_Q_K_V, WIDE_OUT, GATED];

pub(super) fn families() -> Vec<Family> {
    [llama(), qwen(), phi3(), gemma(), scaled(), others()].concat()
}

fn wide(family: Family) -> Family {
    family
        .key("attention.key_length", 24u32)
        .key("attention.value_length", 24u32)
        .key("rope.dimension_count", 24u32)
}

fn tied(family: Family) -> Family {
    family.without("output.weight")
}

fn llama() -> Vec<Family> {
    let llama = || Family::new("llama", RMS, SEPARATE);
    vec![
        llama().key("rope.dimension_count", 16u32),
        tied(llama()).whole(ROPE_FREQS).variant("rope-freqs"),
        llama()
            .key("rope.scaling.type", "linear")
            .key("rope.scaling.factor", 4f32)
            .variant("linear"),
        llama().key("rope.scale_linear", 4f32).variant("scale-linear"),
        llama().yarn().variant("yarn"),
        llama().yarn().key("rope.scaling.attn_factor", 0.8f32).variant("yarn-attn-factor"),
        llama().yarn().key("rope.scaling.yarn_log_multiplier", 0.1f32).variant("yarn-log"),
        wide(Family::new("llama", RMS, WIDE)).variant("wide"),
        Family::new("llama", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, GATED, GATED_BIAS])
            .variant("biases"),
        Family::new("llama", RMS, &[NORMS, FULL_Q_K_V, OUT, GATED])
            .key("attention.head_count_kv", 4u32)
            .variant("all-kv-heads"),
        llama()
            .key("attention.head_count", [4u32; 4])
            .key("attention.head_count_kv", [2u32; 4])
            .key("feed_forward_length", [96u32; 4])
            .key("rope.scaling.type", "none")
            .key("rope.scaling.factor", 4f32)
            .variant("arrays"),
        Family::new("mistral3", RMS, SEPARATE).yarn(),
        Family::new("mistral3", RMS, SEPARATE)
            .yarn()
            .key("rope.scaling.original_context_length", 4u32)
            .key("attention.temperature_scale", 0.3f32)
            .variant("temperature"),
        Family::new("mistral3", RMS, SEPARATE)
            .yarn()
            .key("rope.scaling.original_context_length", 4u32)
            .key("attention.temperature_scale", 0.4f32)
            .variant("growing-temperature"),
        Family::new("mistral3", RMS, SEPARATE)
            .yarn()
            .key("rope.scaling.yarn_log_multiplier", 1f32)
            .variant("yarn-log"),
        Family::new("baichuan", RMS, SEPARATE).n_layers(32).variant("7b"),
        Family::new("baichuan", RMS, SEPARATE).n_layers(40).variant("13b"),
        Family::new("baichuan", RMS, &[NORMS, FULL_Q_K_V, OUT, GATED])
            .key("attention.head_count_kv", 4u32)
            .n_layers(40)
            .six_heads()
            .variant("13b-six-heads"),
        Family::new("xverse", RMS, SEPARATE),
        Family::new("internlm2", RMS, SEPARATE),
        Family::new("smollm3", RMS, SEPARATE),
        tied(Family::new("smollm3", RMS, SEPARATE)).variant("tied"),
        Family::new("ernie4_5", RMS, SEPARATE),
        tied(Family::new("ernie4_5", RMS, SEPARATE)).variant("tied"),
        Family::new("arcee", RMS, &[NORMS, Q_K_V, OUT, PLAIN]),
        Family::new("arcee", RMS, &[NORMS, Q_K_V, OUT, PLAIN]).yarn().variant("yarn"),
    ]
}

fn qwen() -> Vec<Family> {
    // llama.cpp v0.5.0 leaves out this family's epsilon.
    let vision =
        || Family::new("qwen2vl", RMS, BIASED).key("attention.layer_norm_rms_epsilon", 1e-9f32);
    let vision3 = || Family::new("qwen3vl", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]);
    vec![
        Family::new("qwen", RMS, &[NORMS, FULL_QKV, FULL_QKV_BIAS, OUT, GATED])
            .key("attention.head_count_kv", 4u32)
            .key("feed_forward_length", 192u32),
        Family::new("qwen2", RMS, BIASED),
        tied(Family::new("qwen2", RMS, BIASED)).yarn().variant("tied-yarn"),
        Family::new("qwen3", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]).yarn(),
        wide(Family::new("qwen3", RMS, &[NORMS, WIDE_HEAD_NORMS, WIDE_Q_K_V, WIDE_OUT, GATED]))
            .without("output.weight")
            .variant("wide-tied"),
        vision().key("rope.dimension_sections", [2u32, 3, 3, 0]),
        vision3().key("rope.dimension_sections", [3u32, 3, 2, 0]),
        Family::new(
            "seed_oss",
            RMS,
            &[ATTN_NORM, POST_ATTENTION_NORM, Q_K_V, Q_K_V_BIAS, OUT, GATED],
        ),
        Family::new("pangu-embedded", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, GATED]),
    ]
}

fn phi3() -> Vec<Family> {
    let phi3 = || Family::new("phi3", RMS, FUSED).key("rope.dimension_count", 16u32);
    let long = |original: u32| {
        phi3()
            .whole(ROPE_FACTORS)
            .key("rope.scaling.original_context_length", original)
            .key("rope.scaling.attn_factor", 1.19f32)
    };
    vec![
        phi3(),
        long(128).variant("longrope-beyond"),
        long(512).variant("longrope-within"),
        tied(long(128))
            .key("rope.dimension_count", 12u32)
            .without("rope_factors_long.weight")
            .without("rope_factors_short.weight")
            .whole(PARTIAL_ROPE_FACTORS)
            .variant("partial-tied"),
    ]
}

fn gemma() -> Vec<Family> {
    let sizes = |family: Family| {
        tied(family).key("attention.key_length", 16u32).key("attention.value_length", 16u32)
    };
    let caps = |family: Family| {
        family.key("attn_logit_softcapping", 5f32).key("final_logit_softcapping", 10f32)
    };
    let posts: &[&[Tensor]] = &[NORMS, POST_NORMS, Q_K_V, OUT, GATED];
    let wide_posts: &[&[Tensor]] = &[NORMS, POST_NORMS, WIDE_Q_K_V, WIDE_OUT, GATED];
    let gemma3 = |layer: &[&'static [Tensor]]| {
        Family::new("gemma3", RMS, layer).window().key("rope.freq_base", 1_000_000f32)
    };
    let headed: &[&[Tensor]] = &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED];
    let wide_headed: &[&[Tensor]] =
        &[NORMS, POST_NORMS, WIDE_HEAD_NORMS, WIDE_Q_K_V, WIDE_OUT, GATED];
    vec![
        sizes(Family::new("gemma", RMS, SEPARATE)),
        wide(tied(Family::new("gemma", RMS, WIDE))).variant("wide"),
        sizes(Family::new("gemma", RMS, &[NORMS, ONE_KV_HEAD, OUT, GATED]))
            .key("attention.head_count_kv", 1u32)
            .variant("2b"),
        caps(sizes(Family::new("gemma2", RMS, posts)))
            .window()
            .key("attention.sliding_window_pattern", 3u32)
            .variant("pattern"),
        caps(sizes(Family::new("gemma2", RMS, posts))).window(),
        wide(caps(tied(Family::new("gemma2", RMS, wide_posts)).window()))
            .n_layers(46)
            .variant("27b"),
        sizes(gemma3(headed)).n_layers(7),
        sizes(gemma3(headed))
            .n_layers(7)
            .key("rope.scaling.type", "linear")
            .key("rope.scaling.factor", 8f32)
            .variant("linear"),
        sizes(gemma3(headed))
            .key("rope.freq_base_swa", 500f32)
            .key("attention.sliding_window_pattern", 2u32)
            .variant("pattern"),
        wide(tied(gemma3(wide_headed))).n_layers(62).variant("27b"),
    ]
}

/// Factors on embedding, residual, scores and logits.
fn scaled() -> Vec<Family> {
    let minicpm = || Family::new("minicpm", RMS, SEPARATE);
    vec![
        minicpm()
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.7f32)
            .key("logit_scale", 0.8f32),
        minicpm()
            .whole(ROPE_FACTORS)
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.7f32)
            .key("logit_scale", 0.8f32)
            .key("rope.scaling.type", "longrope")
            .key("rope.scaling.original_context_length", 128u32)
            .variant("longrope"),
        Family::new("granite", RMS, SEPARATE)
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.22f32)
            .key("attention.scale", 0.4f32)
            .key("logit_scale", 0.6f32),
        Family::new("granite", RMS, SEPARATE)
            .key("logit_scale", 0.6f32)
            .key("rope.scaling.finetuned", false)
            .variant("no-rope"),
        Family::new("granite", RMS, BIASED)
            .without("output.weight")
            .key("logit_scale", 0.6f32)
            .variant("few-factors"),
    ]
}

fn others() -> Vec<Family> {
    let olmo2 = || Family::new("olmo2", RMS, &[POST_NORMS, ROW_NORMS, Q_K_V, OUT, GATED]);
    let exaone4 = || Family::new("exaone4", RMS, &[POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]);
    vec![
        olmo2(),
        olmo2().window().yarn().variant("olmo3"),
        olmo2()
            .window()
            .key("attention.sliding_window_pattern", [true, false, false, true])
            .variant("pattern"),
        Family::new("chatglm", RMS, &[NORMS, QKV, QKV_BIAS, OUT, JOINED])
            .key("rope.dimension_count", 8u32),
        Family::new("glm4", RMS, &[NORMS, POST_NORMS, Q_K_V, Q_K_V_BIAS, OUT, JOINED])
            .key("rope.dimension_count", 8u32),
        Family::new("glm4", RMS, &[NORMS, POST_NORMS, Q_K_V, OUT, JOINED])
            .key("rope.dimension_count", 8u32)
            .key("rope.dimension_sections", [1u32, 2, 1, 0])
            .variant("sections"),
        Family::new("plamo", RMS, &[ATTN_NORM, Q_K_V, OUT, GATED]),
        Family::new("refact", RMS, SEPARATE),
        Family::new("refact", RMS, &[NORMS, ONE_KV_HEAD, OUT, GATED])
            .key("attention.head_count_kv", 1u32)
            .variant("one-kv-head"),
        Family::new("exaone", RMS, SEPARATE),
        Family::new("exaone", RMS, SEPARATE).whole(ROPE_FREQS).variant("rope-freqs"),
        exaone4(),
        exaone4().window().n_layers(64).variant("window"),
        exaone4().whole(ROPE_FREQS).variant("rope-freqs"),
        Family::new("openelm", RMS, &[NORMS, HEAD_NORMS])
            .without("output.weight")
            .tensors_in(|layer| layer < 2, &[QKV, OUT, GATED])
            .tensors_in(|layer| layer >= 2, &[BIG_QKV, BIG_OUT, BIG_GATED])
            .key("attention.head_count", [4u32, 4, 6, 6])
            .key("attention.head_count_kv", [2u32, 2, 3, 3])
            .key("feed_forward_length", [96u32, 96, 128, 128])
            .key("rope.dimension_count", 16u32)
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32),
        Family::new("bitnet", RMS, &[NORMS, SUB_NORMS, Q_K_V, OUT, GATED]).without("output.weight"),
        Family::new("bitnet", RMS, &[NORMS, SUB_NORMS, Q_K_V, OUT, GATED, MATRIX_SCALES])
            .without("output.weight")
            .variant("scales"),
    ]
}
