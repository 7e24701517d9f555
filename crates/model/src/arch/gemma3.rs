//! Gemma 3, text: Gemma 2 with a norm on each head instead of the caps, five
//! layers of six with a window, and their own rotation (arXiv 2503.19786).
//!
//! The 27B size (62 layers) scales its scores by embedding length over heads
//! (`query_pre_attn_scalar` 168), which files do not carry.

use super::gemma2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma3",
    qk_norm: QkNorm::Heads,
    attention_scale: AttentionScale::KeyWidthUnlessLayers(62),
    window: Window::Always(Layers::AllButLastOf(6)),
    rope_base: RopeBase::FamilyDefault(1_000_000.0),
    window_rope: WindowRope::OwnBase(10_000.0),
    ..gemma2::RECIPE
};
