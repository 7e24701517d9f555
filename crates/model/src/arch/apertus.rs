//! Apertus: xIELU instead of a gated activation, a norm on each head (arXiv 2509.14233).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "apertus",
    qk_norm: QkNorm::Heads,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::PlainXielu,
    experts: None,
    ..llama::RECIPE
};
