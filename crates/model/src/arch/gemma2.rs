//! Gemma 2: norms before and after each part, every other layer with a window,
//! caps on attention scores and logits (arXiv 2408.00118).
//!
//! The 27B size (46 layers) scales its scores by embedding length over heads
//! (`query_pre_attn_scalar` 144), which files do not carry.

use super::gemma;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma2",
    attention_scale: AttentionScale::KeyWidthUnlessLayers(46),
    window: Window::Always(Layers::AllButLastOf(2)),
    post_norms: true,
    ..gemma::RECIPE
};
