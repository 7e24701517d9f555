//! Gemma 2: norms before and after each part, every other layer with a window,
//! caps on attention scores and logits (arXiv 2408.00118).
//!
//! The 27B size (46 layers) scales its scores by embedding length over heads
//! (`query_pre_attn_scalar` 144), which files do not carry. Norm weights are
//! stored with their one already added.

use realm_ir::{Activation, RopeStyle};

use super::llama;
use crate::recipe::{AttentionScale, EmbedScale, FeedForward, Layers, Recipe, Window};

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma2",
    embed_scale: EmbedScale::SqrtWidth,
    attention_scale: AttentionScale::KeyWidthUnlessLayers(46),
    window: Window::Always(Layers::AllButLastOf(2)),
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Gated(Activation::GeluTanh),
    post_norms: true,
    ..llama::RECIPE
};
