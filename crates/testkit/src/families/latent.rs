//! Decoders whose keys and values come from a latent.

use super::tensors::*;
use super::{Family, RMS};

pub(super) fn families() -> Vec<Family> {
    let experts: &[&[Tensor]] = &[EXPERTS, SHARED];
    vec![
        deepseek2(&[NORMS, Q, KV_LATENT, JOINT_LATENT, OUT])
            .experts_behind_dense(experts)
            .shared()
            .key("expert_weights_scale", 1f32)
            .n_layers(27)
            .variant("lite-joint"),
        deepseek2(&[NORMS, Q, KV_LATENT, JOINT_LATENT, OUT])
            .experts_behind_dense(experts)
            .shared()
            .key("expert_weights_scale", 1f32)
            .yarn()
            .key("rope.scaling.yarn_log_multiplier", 0.0707f32)
            .n_layers(27)
            .variant("lite-joint-yarn"),
        split(deepseek2(&[NORMS, Q, KV_LATENT, SPLIT_LATENT, OUT]))
            .experts_behind_dense(experts)
            .shared()
            .key("expert_weights_scale", 1f32)
            .n_layers(27)
            .variant("lite"),
        split(deepseek2(&[NORMS, Q_LATENT, KV_LATENT, SPLIT_LATENT, OUT]))
            .key("attention.q_lora_rank", 48u32)
            .experts_behind_dense(experts)
            .shared()
            .key("expert_weights_scale", 16f32)
            .yarn()
            .key("rope.scaling.yarn_log_multiplier", 0.0707f32)
            .variant("v2-yarn"),
        split(deepseek2(&[NORMS, Q_LATENT, KV_LATENT, SPLIT_LATENT, OUT]))
            .key("attention.q_lora_rank", 48u32)
            .experts_behind_dense(&[EXPERTS, CHOICE_BIAS, SHARED])
            .shared()
            .sigmoid()
            .yarn()
            .key("rope.scaling.yarn_log_multiplier", 0.1f32)
            .key("expert_group_count", 2u32)
            .key("expert_group_used_count", 1u32)
            .variant("v3"),
        split(deepseek2(&[NORMS, Q_LATENT, KV_LATENT, SPLIT_LATENT, OUT]))
            .key("attention.q_lora_rank", 48u32)
            .experts(&[EIGHT_EXPERTS, SHARED])
            .shared()
            .key("leading_dense_block_count", 0u32)
            .key("expert_count", 8u32)
            .key("expert_group_count", 2u32)
            .key("expert_group_used_count", 1u32)
            .key("expert_weights_scale", 2f32)
            .variant("groups-of-four"),
        mistral4()
            .key("attention.temperature_length", 4u32)
            .key("attention.temperature_scale", 0.4f32),
        mistral4().yarn().key("rope.scaling.yarn_log_multiplier", 0.1f32).variant("yarn"),
        Family::new("minicpm3", RMS, &[NORMS, Q_LATENT, KV_LATENT, JOINT_LATENT, OUT, GATED])
            .key("attention.q_lora_rank", 48u32)
            .key("attention.kv_lora_rank", 32u32)
            .key("attention.key_length", 16u32)
            .key("attention.head_count_kv", 4u32)
            .key("rope.dimension_count", 8u32),
        Family::new("minicpm3", RMS, &[NORMS, Q_LATENT, KV_LATENT, JOINT_LATENT, OUT, GATED])
            .whole(LATENT_ROPE_FACTORS)
            .key("rope.scaling.original_context_length", 128u32)
            .key("attention.q_lora_rank", 48u32)
            .key("attention.kv_lora_rank", 32u32)
            .key("attention.key_length", 16u32)
            .key("attention.head_count_kv", 4u32)
            .key("rope.dimension_count", 8u32)
            .variant("longrope"),
        Family::new("plm", RMS, &[NORMS, KV_LATENT, JOINT_LATENT, Q, OUT, PLAIN])
            .without("output.weight")
            .key("attention.kv_lora_rank", 32u32)
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32)
            .key("attention.head_count_kv", 4u32)
            .key("rope.dimension_count", 8u32),
    ]
}

fn mistral4() -> Family {
    split(Family::new("mistral4", RMS, &[NORMS, Q_LATENT, KV_LATENT, SPLIT_LATENT, OUT]))
        .key("attention.kv_lora_rank", 32u32)
        .key("attention.q_lora_rank", 48u32)
        .key("rope.dimension_count", 8u32)
        .experts_behind_dense(&[EXPERTS, SHARED])
        .shared()
}

/// DeepSeek 2 with each head's key and value made of the latent.
fn deepseek2(layer: &[&'static [Tensor]]) -> Family {
    Family::new("deepseek2", RMS, layer)
        .key("attention.kv_lora_rank", 32u32)
        .key("attention.key_length", 16u32)
        .key("attention.value_length", 16u32)
        .key("attention.head_count_kv", 4u32)
        .key("rope.dimension_count", 8u32)
}

/// The latent itself is the key and the value.
fn split(family: Family) -> Family {
    family
        .key("attention.head_count_kv", 1u32)
        .key("attention.key_length", 40u32)
        .key("attention.value_length", 32u32)
        .key("attention.key_length_mla", 16u32)
        .key("attention.value_length_mla", 16u32)
}
