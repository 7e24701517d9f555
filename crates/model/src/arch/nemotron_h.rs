//! Nemotron-H: layers of one part each, Mamba 2's scan, attention without positions or a
//! feed-forward part with squared ReLU (arXiv 2504.03624).

use realm_ir::Activation;

use super::mamba2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nemotron_h",
    block: Block::OnePart,
    feed_forward: FeedForward::Plain(Activation::ReluSquared),
    ..mamba2::RECIPE
};
