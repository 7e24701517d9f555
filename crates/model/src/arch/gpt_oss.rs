//! gpt-oss: experts in every layer, attention sinks, a window in every other layer,
//! YaRN (arXiv 2508.10925).

use realm_ir::{Activation, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gpt-oss",
    ffn_norm: "post_attention_norm",
    sinks: Sinks::Required,
    window: Window::Always(Layers::AllButLastOf(2)),
    rope_style: RopeStyle::Halves,
    rope_base: RopeBase::Required,
    feed_forward: FeedForward::Gated(Activation::ClampedSwiglu),
    ..llama::RECIPE
};
