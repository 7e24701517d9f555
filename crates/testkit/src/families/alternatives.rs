//! Decoders in which a part is missing, stands elsewhere or comes in another form.

use super::tensors::*;
use super::{Family, LAYER, RMS};

pub(super) fn families() -> Vec<Family> {
    [heads(), experts(), layers(), delta_rules()].concat()
}

/// Norms of heads behind the rotation.
fn heads() -> Vec<Family> {
    let dense: &[&[Tensor]] = &[NORMS, HEAD_NORMS, Q_K_V, OUT, GATED];
    vec![
        Family::new("hunyuan-dense", RMS, dense),
        Family::new("hunyuan_vl", RMS, dense)
            .key("rope.dimension_sections", [3u32, 3, 2, 0])
            .key("rope.scaling.alpha", 4f32),
        Family::new("hunyuan-moe", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, SHARED])
            .key("feed_forward_length", 32u32)
            .key("expert_shared_feed_forward_length", 32u32),
        Family::new("hy_v3", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT])
            .experts_behind_dense(&[EXPERTS, SHARED, BARE_CHOICE_BIAS])
            .sigmoid()
            .key("expert_shared_feed_forward_length", 32u32),
        Family::new("maincoder", RMS, dense),
        Family::new("apertus", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT, PLAIN])
            .bare_key("xielu.alpha_p", vec![0.5f32, 0.7, 0.2, 0.9])
            .bare_key("xielu.alpha_n", vec![0.3f32, -0.2, 0.8, 0.1])
            .bare_key("xielu.beta", vec![0.5f32, 0.6, 0.4, 0.5])
            .bare_key("xielu.eps", vec![-1e-6f32; 4]),
        Family::new("plamo3", RMS, &[NORMS, BARE_POST_NORMS, HEAD_NORMS, QKV, OUT, JOINED])
            .window()
            .key("attention.sliding_window_pattern", 2u32)
            .key("rope.freq_base_swa", 500f32),
        Family::new("paddleocr", RMS, &[NORMS, Q_K_V, OUT, GATED])
            .key("rope.dimension_sections", [3u32, 3, 2, 0]),
    ]
}

fn experts() -> Vec<Family> {
    let wide = |family: Family| family.key("expert_count", 4u32).key("expert_used_count", 2u32);
    vec![
        Family::new("llama4", RMS, &[NORMS, Q_K_V, OUT])
            .experts_in(|layer| layer % 2 == 1, &[EXPERTS, SHARED])
            .tensors_in(|layer| layer % 2 == 0, &[GATED])
            .key("interleave_moe_layer_step", 2u32)
            .key("expert_used_count", 1u32)
            .shared(),
        wide(
            Family::new(
                "phimoe",
                RMS,
                &[NORMS, NORM_BIASES, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, WIDE_EXPERTS],
            )
            .key("attention.head_count_kv", 2u32)
            .whole(OUTPUT_NORM_BIAS)
            .whole(OUTPUT_BIAS),
        ),
        wide(Family::new("dbrx", LAYER, &[ATTN_NORM, ATTN_OUTPUT_NORM, QKV, OUT, WIDE_EXPERTS]))
            .key("attention.clamp_kqv", 0.8f32),
        Family::new("smallthinker", RMS, &[NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS])
            .key("expert_gating_func", 2u32)
            .key("attention.sliding_window", 4096u32)
            // With four layers llama.cpp rotates all of them.
            .n_layers(6),
        Family::new("mimo2", RMS, &[NORMS, OUT])
            .experts_behind_dense(&[EXPERTS, CHOICE_BIAS])
            .tensors_in(|layer| layer % 2 == 0, &[FULL_Q_K_V, SINKS])
            .tensors_in(|layer| layer % 2 == 1, &[Q_K_V])
            .window()
            .key("attention.head_count_kv", [4u32, 2, 4, 2])
            .key("attention.sliding_window_pattern", [1u32, 0, 1, 0])
            .key("attention.value_scale", 0.7f32)
            .key("rope.freq_base_swa", 500f32)
            .key("rope.dimension_count", 8u32),
        Family::new("lfm2moe", RMS, &[NORMS])
            .without("output.weight")
            .without("output_norm.weight")
            .whole(&[("token_embd_norm.weight", &[64])])
            .experts_behind_dense(&[EXPERTS, CHOICE_BIAS])
            .tensors_in(|layer| layer % 2 == 0, &[SHORT_CONV])
            .tensors_in(|layer| layer % 2 == 1, &[HEAD_NORMS, Q_K_V, OUT])
            .key("attention.head_count_kv", [0u32, 2, 0, 2])
            .key("expert_gating_func", 2u32)
            .key("shortconv.l_cache", 3u32),
        Family::new("llama", RMS, &[NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, EXPERT_SCALES])
            .key("feed_forward_length", 32u32)
            .variant("expert_scales"),
    ]
}

/// Layers without attention.
fn layers() -> Vec<Family> {
    vec![
        Family::new("deci", RMS, &[FFN_NORM, GATED])
            .tensors_in(|layer| layer != 2, &[ATTN_NORM, OUT])
            .tensors_in(|layer| layer % 3 == 0, &[Q_K_V])
            .key("attention.head_count", [4u32, 4, 0, 4])
            .key("attention.head_count_kv", [2u32, 0, 0, 2])
            .key("feed_forward_length", [96u32; 4]),
    ]
}

fn delta_rules() -> Vec<Family> {
    let qwen = |architecture, experts: &'static [Tensor], net: &'static [Tensor]| {
        Family::new(architecture, RMS, &[ATTN_NORM, POST_ATTENTION_NORM])
            .experts(&[experts, SHARED, SHARED_GATE])
            .tensors_in(|layer| layer % 4 != 3, &[net])
            .tensors_in(|layer| layer % 4 == 3, &[HEAD_NORMS, GATED_Q_K_V, OUT])
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32)
            .key("rope.dimension_count", 8u32)
            .key("full_attention_interval", 4u32)
            .key("expert_shared_feed_forward_length", 32u32)
            .key("ssm.conv_kernel", 4u32)
            .key("ssm.state_size", 16u32)
            .key("ssm.group_count", 2u32)
            .key("ssm.time_step_rank", 4u32)
            .key("ssm.inner_size", 64u32)
    };
    vec![
        qwen("qwen35moe", EXPERTS, DELTA_NET).key("rope.dimension_sections", [2u32, 1, 1, 0]),
        qwen("qwen35moe", JOINED_EXPERTS, DELTA_NET)
            .key("rope.dimension_sections", [2u32, 1, 1, 0])
            .variant("joined"),
        qwen("qwen3next", EXPERTS, DELTA_NET_JOINED),
    ]
}
