//! Phi 1.5 and 2: attention and feed-forward side by side behind one layer norm,
//! half-rotated heads (arXiv 2309.05463).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "phi2",
    norm: NormKind::Layer,
    block: Block::Parallel,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::GeluTanh),
    experts: None,
    ..llama::RECIPE
};
