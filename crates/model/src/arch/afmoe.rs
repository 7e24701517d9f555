//! Arcee Trinity: a gate on attention, norms before and after each part, a window in
//! three layers of four of which only those rotate, experts behind some dense layers.

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "afmoe",
    embed_scale: EmbedScale::SqrtWidth,
    post_norms: true,
    qk_norm: QkNorm::Heads,
    attention_gate: AttentionGate::Matrix,
    window: Window::Always(Layers::AllButLastOf(4)),
    rope_style: RopeStyle::Halves,
    rope_layers: RopeLayers::WithWindow,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: false }),
    ..llama::RECIPE
};
