//! SmallThinker: the router reads the layer's input, so that experts can be fetched while
//! attention runs; a window in three layers of four, and only those rotate
//! (arXiv 2507.20984).

use realm_ir::{Activation, Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "smallthinker",
    window: Window::If(Layers::AllButFirstOf(4)),
    rope_style: RopeStyle::Halves,
    rope_layers: RopeLayers::WithWindow,
    feed_forward: FeedForward::Gated(Activation::Relu),
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    router_reads_layer: true,
    ..llama::RECIPE
};
