//! Gemma: Llama's block with GELU and a scaled embedding (arXiv 2403.08295).
//!
//! Norm weights are stored with their one already added.

use realm_ir::{Activation, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma",
    embed_scale: EmbedScale::SqrtWidth,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Gated(Activation::GeluTanh),
    experts: None,
    ..llama::RECIPE
};
