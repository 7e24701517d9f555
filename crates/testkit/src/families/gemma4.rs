//! Gemma 4 in its three shapes.

use super::tensors::*;
use super::{Family, RMS, Tensor};

const OUTPUT_SCALE: &[Tensor] = &[("layer_output_scale.weight", &[1])];
const FROM_PER_LAYER: &[Tensor] =
    &[("inp_gate.weight", &[64, 8]), ("proj.weight", &[8, 64]), ("post_norm.weight", &[64])];
const EXPERTS_BESIDE: &[Tensor] = &[
    ("ffn_gate_inp.weight", &[64, 4]),
    ("ffn_gate_inp.scale", &[64]),
    ("ffn_gate_up_exps.weight", &[64, 64, 4]),
    ("ffn_down_exps.weight", &[32, 64, 4]),
    ("ffn_down_exps.scale", &[4]),
    ("pre_ffw_norm_2.weight", &[64]),
    ("post_ffw_norm_1.weight", &[64]),
    ("post_ffw_norm_2.weight", &[64]),
];
/// Keys that are values as well, in the layers that see everything.
const Q_K: &[Tensor] = &[("attn_q.weight", &[64, 64]), ("attn_k.weight", &[64, 32])];

pub(super) fn families() -> Vec<Family> {
    vec![
        gemma4(&[Q_K_V, OUTPUT_SCALE]).key("embedding_length_per_layer_input", 0u32),
        gemma4(&[OUTPUT_SCALE])
            .tensors_in(|layer| layer % 2 == 0, &[Q_K_V])
            .tensors_in(|layer| layer % 2 == 1, &[Q_K])
            .key("embedding_length_per_layer_input", 0u32)
            .variant("keys-as-values"),
        gemma4(&[Q_K_V, FROM_PER_LAYER])
            .whole(&[
                ("per_layer_token_embd.weight", &[32, 32]),
                ("per_layer_model_proj.weight", &[64, 32]),
                ("per_layer_proj_norm.weight", &[8]),
            ])
            .key("attention.shared_kv_layers", 2u32)
            .key("embedding_length_per_layer_input", 8u32)
            .variant("per-layer-inputs"),
        gemma4(&[Q_K_V])
            .experts(&[EXPERTS_BESIDE])
            .key("embedding_length_per_layer_input", 0u32)
            // With more layers, llama.cpp's rounding of GELU turns a choice of experts.
            .n_layers(2)
            .key("attention.sliding_window_pattern", [true, false])
            .variant("experts"),
    ]
}

fn gemma4(parts: &[&'static [Tensor]]) -> Family {
    let parts = [&[NORMS, POST_NORMS, HEAD_NORMS, OUT, GATED], parts].concat();
    Family::new("gemma4", RMS, &parts)
        .whole(&[("rope_freqs.weight", &[8])])
        .window()
        .key("attention.sliding_window_pattern", [true, false, true, false])
        .key("attention.key_length", 16u32)
        .key("attention.value_length", 16u32)
        .key("attention.key_length_swa", 16u32)
        .key("attention.value_length_swa", 16u32)
        .key("rope.freq_base", 1_000_000f32)
        .key("rope.freq_base_swa", 10_000f32)
        .key("final_logit_softcapping", 30f32)
}
