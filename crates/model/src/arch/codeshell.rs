//! CodeShell: layer norms and biases everywhere, rotated heads (arXiv 2403.15747).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "codeshell",
    norm: NormKind::Layer,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::GeluTanh),
    experts: None,
    ..llama::RECIPE
};
