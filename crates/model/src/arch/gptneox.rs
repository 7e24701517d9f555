//! GPT-NeoX and Pythia: attention and feed-forward side by side, each with its
//! layer norm (arXiv 2204.06745).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gptneox",
    norm: NormKind::Layer,
    block: Block::ByKey,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::GeluErf),
    experts: None,
    ..llama::RECIPE
};
