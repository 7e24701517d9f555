//! Falcon: attention and feed-forward side by side; in the large sizes attention
//! has a norm of its own (arXiv 2311.16867).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "falcon",
    norm: NormKind::Layer,
    block: Block::Parallel,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::GeluErf),
    experts: None,
    ..llama::RECIPE
};
