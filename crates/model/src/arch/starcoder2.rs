//! StarCoder 2: layer norms and biases everywhere (arXiv 2402.19173).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "starcoder2",
    norm: NormKind::Layer,
    window: Window::If(Layers::All),
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::GeluTanh),
    experts: None,
    ..llama::RECIPE
};
