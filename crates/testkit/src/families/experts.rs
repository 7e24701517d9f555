//! Mixtures of experts.

use super::tensors::*;
use super::{Family, RMS};

const ATTENTION: &[&[Tensor]] = &[NORMS, Q_K_V, OUT];
const HEADED: &[&[Tensor]] = &[NORMS, HEAD_NORMS, Q_K_V, OUT];

pub(super) fn families() -> Vec<Family> {
    [softmax(), sigmoid(), windowed()].concat()
}

fn softmax() -> Vec<Family> {
    let deepseek = || {
        Family::new("deepseek", RMS, ATTENTION)
            .experts_behind_dense(&[EXPERTS, SHARED])
            .shared()
            .key("expert_weights_scale", 1f32)
    };
    let ernie = || {
        Family::new("ernie4_5-moe", RMS, ATTENTION)
            .experts_behind_dense(&[EXPERTS, CHOICE_BIAS, SHARED])
            .key("expert_shared_feed_forward_length", 32u32)
            .key("expert_shared_count", 1u32)
            .key("interleave_moe_layer_step", 1u32)
    };
    let granite = |experts: &[&'static [Tensor]]| {
        Family::new("granitemoe", RMS, ATTENTION)
            .experts(experts)
            .key("feed_forward_length", 32u32)
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.22f32)
            .key("attention.scale", 0.4f32)
            .key("logit_scale", 0.6f32)
    };
    let qwen2moe = || {
        Family::new("qwen2moe", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT])
            .experts(&[EXPERTS, SHARED, SHARED_GATE])
            .key("expert_shared_feed_forward_length", 32u32)
    };
    vec![
        Family::new("llama", RMS, ATTENTION)
            .experts(&[EXPERTS])
            .key("feed_forward_length", 32u32)
            .variant("experts"),
        Family::new("olmoe", RMS, &[NORMS, FULL_ROW_NORMS, FULL_Q_K_V, OUT])
            .experts(&[EXPERTS])
            .key("feed_forward_length", 32u32)
            .key("attention.head_count_kv", 4u32),
        Family::new("qwen3moe", RMS, HEADED).experts(&[EXPERTS]),
        Family::new("qwen3vlmoe", RMS, HEADED)
            .experts(&[EXPERTS])
            .key("rope.dimension_sections", [3u32, 3, 2, 0]),
        qwen2moe(),
        deepseek(),
        Family::new("bailingmoe", RMS, ATTENTION)
            .experts(&[EXPERTS, SHARED])
            .shared()
            .key("expert_weights_scale", 1f32)
            .key("expert_weights_norm", true),
        Family::new("bailingmoe", RMS, ATTENTION)
            .experts(&[EXPERTS, SHARED])
            .shared()
            .key("expert_weights_scale", 2.5f32)
            .key("expert_weights_norm", false)
            .variant("scaled"),
        ernie(),
        granite(&[EXPERTS]),
        granite(&[EXPERTS, SHARED])
            .key("expert_shared_feed_forward_length", 32u32)
            .without("output.weight")
            .variant("shared"),
        Family::new("minicpm", RMS, ATTENTION)
            .experts(&[EXPERTS])
            .key("feed_forward_length", 32u32)
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.7f32)
            .key("logit_scale", 0.8f32)
            .variant("experts"),
    ]
}

fn sigmoid() -> Vec<Family> {
    let biased: &[&[Tensor]] = &[EXPERTS, CHOICE_BIAS, SHARED];
    let glm = |layer: &[&'static [Tensor]]| {
        Family::new("glm4moe", RMS, layer)
            .experts_behind_dense(&[EXPERTS, CHOICE_BIAS, SHARED])
            .shared()
            .sigmoid()
            .key("rope.dimension_count", 8u32)
    };
    vec![
        Family::new("dots1", RMS, &[NORMS, HEAD_NORMS, FULL_Q_K_V, OUT])
            .experts_behind_dense(biased)
            .shared()
            .sigmoid()
            .key("attention.head_count_kv", 4u32),
        Family::new("dots1", RMS, &[NORMS, HEAD_NORMS, FULL_Q_K_V, OUT])
            .experts_behind_dense(biased)
            .shared()
            .key("attention.head_count_kv", 4u32)
            .key("expert_gating_func", 2u32)
            .variant("few-keys"),
        Family::new("bailingmoe2", RMS, &[NORMS, HEAD_NORMS, QKV, OUT])
            .experts_behind_dense(biased)
            .shared()
            .key("expert_gating_func", 2u32)
            .variant("few-keys"),
        Family::new("exaone-moe", RMS, HEADED)
            .experts_behind_dense(biased)
            .shared()
            .window()
            .key("attention.sliding_window_pattern", 2u32)
            .key("expert_gating_func", 2u32)
            .variant("few-keys"),
        Family::new("glm4moe", RMS, &[ATTN_NORM, POST_ATTENTION_NORM, Q_K_V, OUT])
            .experts_behind_dense(biased)
            .shared()
            .variant("few-keys"),
        Family::new("minimax-m2", RMS, &[NORMS, ROW_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS])
            .key("feed_forward_length", 32u32)
            .key("expert_gating_func", 2u32)
            .variant("few-keys"),
        Family::new("deepseek", RMS, ATTENTION)
            .experts_behind_dense(&[EXPERTS, SHARED])
            .shared()
            .variant("few-keys"),
        Family::new("bailingmoe", RMS, ATTENTION)
            .experts(&[EXPERTS, SHARED])
            .shared()
            .variant("few-keys"),
        glm(&[ATTN_NORM, POST_ATTENTION_NORM, HEAD_NORMS, Q_K_V, OUT]),
        glm(&[ATTN_NORM, POST_ATTENTION_NORM, Q_K_V, Q_K_V_BIAS, OUT]).variant("biases"),
        glm(&[ATTN_NORM, POST_ATTENTION_NORM, Q_K_V, OUT])
            .n_layers(5)
            .tensors_in(|layer| layer == 4, &[NEXT_TOKENS])
            .key("nextn_predict_layers", 1u32)
            .variant("next-tokens"),
        Family::new("bailingmoe2", RMS, &[NORMS, HEAD_NORMS, QKV, OUT])
            .experts_behind_dense(biased)
            .shared()
            .sigmoid()
            .key("expert_group_count", 2u32)
            .key("expert_group_used_count", 1u32)
            .key("expert_shared_feed_forward_length", 32u32),
        Family::new("bailingmoe2", RMS, &[NORMS, HEAD_NORMS, QKV, OUT])
            .experts(&[EIGHT_EXPERTS, EIGHT_CHOICE_BIAS, SHARED])
            .shared()
            .sigmoid()
            .key("expert_count", 8u32)
            .key("leading_dense_block_count", 0u32)
            .key("expert_group_count", 2u32)
            .key("expert_group_used_count", 1u32)
            .key("expert_shared_feed_forward_length", 32u32)
            .variant("groups-of-four"),
        Family::new("minimax-m2", RMS, &[NORMS, ROW_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS])
            .key("feed_forward_length", 32u32)
            .key("expert_gating_func", 2u32)
            .key("rope.dimension_count", 8u32),
    ]
}

fn windowed() -> Vec<Family> {
    let biased: &[&[Tensor]] = &[EXPERTS, CHOICE_BIAS, SHARED];
    vec![
        Family::new("mellum", RMS, HEADED)
            .experts(&[EXPERTS])
            .window()
            .yarn()
            .key("attention.sliding_window_pattern", 2u32),
        Family::new("exaone-moe", RMS, HEADED)
            .n_layers(5)
            .experts_behind_dense(biased)
            .shared()
            .sigmoid()
            .window(),
        Family::new("afmoe", RMS, &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, ATTENTION_GATE, OUT])
            .n_layers(5)
            .experts_behind_dense(biased)
            .shared()
            .sigmoid()
            .window(),
        Family::new(
            "gpt-oss",
            RMS,
            &[ATTN_NORM, POST_ATTENTION_NORM, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, SINKS],
        )
        .experts(&[EXPERTS, EXPERT_BIASES])
        .window()
        .yarn(),
        Family::new("afmoe", RMS, &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, ATTENTION_GATE, OUT])
            .experts_behind_dense(biased)
            .shared()
            .window()
            .variant("few-keys"),
    ]
}
