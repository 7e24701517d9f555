//! Decoders with recurrent layers.

use super::tensors::*;
use super::{Family, RMS};

pub(super) fn families() -> Vec<Family> {
    vec![
        Family::new("lfm2", RMS, &[NORMS, GATED])
            .without("output.weight")
            .without("output_norm.weight")
            .whole(&[("token_embd_norm.weight", &[64])])
            .tensors_in(|layer| layer % 2 == 0, &[SHORT_CONV])
            .tensors_in(|layer| layer % 2 == 1, &[HEAD_NORMS, Q_K_V, OUT])
            .key("attention.head_count_kv", [0u32, 2, 0, 2])
            .key("shortconv.l_cache", 3u32),
        Family::new("qwen35", RMS, &[ATTN_NORM, POST_ATTENTION_NORM, GATED])
            .tensors_in(|layer| layer % 4 != 3, &[DELTA_NET])
            .tensors_in(|layer| layer % 4 == 3, &[HEAD_NORMS, GATED_Q_K_V, OUT])
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32)
            .key("rope.dimension_count", 8u32)
            .key("rope.dimension_sections", [2u32, 1, 1, 0])
            .key("full_attention_interval", 4u32)
            .key("ssm.conv_kernel", 4u32)
            .key("ssm.state_size", 16u32)
            .key("ssm.group_count", 2u32)
            .key("ssm.time_step_rank", 4u32)
            .key("ssm.inner_size", 64u32),
    ]
}
