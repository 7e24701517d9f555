//! Nomic Embed: BERT with rotated heads and a gated feed-forward part (arXiv 2402.01613).

use realm_ir::{Activation, RopeStyle};

use super::bert;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nomic-bert",
    positions: Positions::Rope,
    rope_style: RopeStyle::Halves,
    rope_base: RopeBase::Required,
    feed_forward: FeedForward::Gated(Activation::Silu),
    ..bert::RECIPE
};
