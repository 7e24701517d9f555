//! Decoders with selective scans.

use super::tensors::*;
use super::{Family, RMS};

pub(super) fn families() -> Vec<Family> {
    let mamba = |architecture, layer: &[&'static [Tensor]]| {
        Family::new(architecture, RMS, layer)
            .key("ssm.conv_kernel", 4u32)
            .key("ssm.inner_size", 128u32)
            .key("ssm.state_size", 16u32)
            .key("ssm.time_step_rank", 4u32)
    };
    let mamba2 = |architecture, layer: &[&'static [Tensor]]| {
        mamba(architecture, layer).key("ssm.group_count", 2u32)
    };
    let alone = |family: Family| {
        family
            .key("attention.head_count", 0u32)
            .key("attention.head_count_kv", 0u32)
            .key("feed_forward_length", 0u32)
    };
    let granite = || {
        mamba2("granitehybrid", &[NORMS])
            .tensors_in(|layer| layer % 2 == 0, &[MAMBA2])
            .tensors_in(|layer| layer % 2 == 1, &[Q_K_V, OUT])
            .key("attention.head_count_kv", [0u32, 2, 0, 2])
            .key("embedding_scale", 2f32)
            .key("residual_scale", 0.4f32)
            .key("attention.scale", 0.3f32)
            .key("logit_scale", 0.6f32)
    };
    let nemotron = |architecture| {
        mamba2(architecture, &[ATTN_NORM])
            .tensors_in(|layer| layer % 2 == 0, &[MAMBA2])
            .tensors_in(|layer| layer == 1, &[Q_K_V, OUT])
            .key("attention.head_count_kv", [0u32, 2, 0, 0])
            .key("feed_forward_length", [0u32, 0, 0, 96])
            .key("attention.layer_norm_epsilon", 1e-5f32)
    };
    vec![
        alone(mamba("mamba", &[ATTN_NORM, MAMBA])),
        alone(mamba("mamba", &[ATTN_NORM, MAMBA])).key("ssm.dt_b_c_rms", true).variant("falcon"),
        alone(mamba2("mamba2", &[ATTN_NORM, MAMBA2])),
        mamba("jamba", &[NORMS])
            .tensors_in(|layer| layer % 2 == 0, &[MAMBA, MAMBA_NORMS, GATED])
            .tensors_in(|layer| layer % 2 == 1, &[Q_K_V, OUT, WIDE_EXPERTS])
            .key("attention.head_count_kv", [0u32, 2, 0, 2])
            .key("expert_count", 4u32)
            .key("expert_used_count", 2u32),
        granite().tensors_in(|_| true, &[GATED]),
        granite()
            .tensors_in(|_| true, &[GATED])
            .key("rope.scaling.finetuned", false)
            .variant("nope"),
        granite()
            .experts(&[WIDE_EXPERTS, SHARED])
            .key("expert_feed_forward_length", 96u32)
            .key("expert_shared_feed_forward_length", 32u32)
            .variant("experts"),
        mamba2("falcon-h1", &[ATTN_NORM, MAMBA2, Q_K_V, OUT, BARE_FFN_NORM, GATED]),
        nemotron("nemotron_h").tensors_in(|layer| layer == 3, &[PLAIN]),
        nemotron("nemotron_h_moe")
            .tensors_in(|layer| layer == 3, &[NARROW_UNGATED_EXPERTS, UNGATED_SHARED, CHOICE_BIAS])
            .shared()
            .sigmoid()
            .key("expert_count", 4u32)
            .key("expert_used_count", 2u32)
            .key("expert_feed_forward_length", 32u32)
            .key("expert_shared_feed_forward_length", 32u32)
            .key("expert_group_count", 1u32)
            .key("expert_group_used_count", 1u32),
    ]
}
