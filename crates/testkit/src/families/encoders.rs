//! Encoders: norms behind the residual, no output matrix.

use super::tensors::*;
use super::{Family, LAYER};

pub(super) fn families() -> Vec<Family> {
    let gated_bert: &[&[Tensor]] = &[OUTPUT_NORMS, OUT, GATED];
    vec![
        encoder(
            "bert",
            &[OUTPUT_NORMS, FULL_Q_K_V, FULL_Q_K_V_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS],
        )
        .whole(POSITIONS),
        encoder("bert", &[OUTPUT_NORMS, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS])
            .whole(POSITIONS)
            .without("token_types.weight")
            .variant("no-types"),
        encoder("jina-bert-v2", &[FULL_Q_K_V, FULL_Q_K_V_BIAS, OUT_BIAS, FFN_DOWN_BIAS])
            .tensors_in(|_| true, gated_bert),
        encoder("jina-bert-v2", &[FULL_Q_K_V, FULL_Q_K_V_BIAS, OUT_BIAS, FFN_DOWN_BIAS])
            .tensors_in(
                |_| true,
                &[OUTPUT_NORMS, OUT, JOINED, SECOND_NORM, FULL_ROW_NORMS, FULL_ROW_NORM_BIASES],
            )
            .variant("code"),
        encoder("jina-bert-v2", &[FULL_Q_K_V, FULL_Q_K_V_BIAS, OUT_BIAS, FFN_DOWN_BIAS])
            .tensors_in(|_| true, gated_bert)
            .six_heads()
            .variant("six-heads"),
        encoder(
            "jina-bert-v3",
            &[OUTPUT_NORMS, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS],
        ),
        encoder("nomic-bert", &[FULL_QKV]).tensors_in(|_| true, gated_bert),
        encoder("nomic-bert-moe", &[OUTPUT_NORMS, FULL_QKV, FULL_QKV_BIAS, OUT, OUT_BIAS])
            .tensors_in(|layer| layer % 2 == 0, &[PLAIN, PLAIN_BIAS])
            .tensors_in(|layer| layer % 2 == 1, &[UNGATED_EXPERTS])
            .key("moe_every_n_layers", 2u32)
            .key("expert_count", 4u32)
            .key("expert_used_count", 2u32),
    ]
}

fn encoder(architecture: &'static str, layer: &[&'static [Tensor]]) -> Family {
    Family::new(architecture, LAYER, layer)
        .without("output.weight")
        .without("output_norm.weight")
        .whole(EMBEDDING_NORM)
        .whole(TOKEN_TYPES)
        .key("attention.head_count_kv", 4u32)
        .key("attention.causal", false)
}
