//! Nomic Embed 2: experts without gates in every second layer (arXiv 2502.07972).

use realm_ir::{Activation, Gating};

use super::nomic_bert;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nomic-bert-moe",
    feed_forward: FeedForward::Plain(Activation::GeluErf),
    experts: Some(Experts { gating: Gating::Softmax, normalize: false }),
    ..nomic_bert::RECIPE
};
