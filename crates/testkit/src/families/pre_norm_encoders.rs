//! Encoders with norms before their parts.

use super::tensors::*;
use super::{Family, LAYER, RMS};

pub(super) fn families() -> Vec<Family> {
    vec![
        encoder("eurobert", RMS, &[NORMS, Q_K_V, OUT, GATED]),
        encoder("llama-embed", RMS, &[NORMS, Q_K_V, OUT, GATED]),
        encoder("neo-bert", RMS, &[NORMS, QKV, OUT, JOINED])
            .without("output_norm.weight")
            .whole(&[("enc.output_norm.weight", &[64])]),
        encoder("modern-bert", LAYER, &[FFN_NORM, FULL_QKV, OUT, JOINED])
            .tensors_in(|layer| layer > 0, &[ATTN_NORM])
            .whole(&[("token_embd_norm.weight", &[64])])
            .window()
            .key("attention.head_count_kv", 4u32)
            .key("rope.freq_base_swa", 500f32),
        encoder("gemma-embedding", RMS, &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED])
            .n_layers(7)
            .window()
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32),
    ]
}

fn encoder(
    architecture: &'static str,
    epsilon: &'static str,
    layer: &[&'static [Tensor]],
) -> Family {
    Family::new(architecture, epsilon, layer)
        .without("output.weight")
        .key("attention.causal", false)
        .key("pooling_type", 1u32)
}
