//! ModernBERT: an encoder with norms before its parts, of which the first layer has none, and
//! a window to either side in two layers of three (arXiv 2412.13663).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "modern-bert",
    is_encoder: true,
    norm: NormKind::Layer,
    first_attention_norm: false,
    window: Window::Always(Layers::AllButFirstOf(3)),
    rope_style: RopeStyle::Halves,
    window_rope: WindowRope::OwnBase(10_000.0),
    feed_forward: FeedForward::Gated(Activation::GeluErf),
    experts: None,
    ..llama::RECIPE
};
