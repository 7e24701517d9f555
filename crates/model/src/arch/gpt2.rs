//! GPT-2: learned positions, layer norms, one matrix for queries, keys and values
//! (Radford et al. 2019).

use realm_ir::{Activation, NormKind};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gpt2",
    positions: Positions::Learned,
    norm: NormKind::Layer,
    window: Window::Never,
    feed_forward: FeedForward::Plain(Activation::GeluTanh),
    experts: None,
    ..llama::RECIPE
};
