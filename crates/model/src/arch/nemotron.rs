//! Nemotron 4 and Minitron: layer norms, squared ReLU without a gate, half-rotated
//! heads (arXiv 2402.16819, 2407.14679). Norm weights are stored with their one added.

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nemotron",
    norm: NormKind::Layer,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::ReluSquared),
    experts: None,
    ..llama::RECIPE
};
