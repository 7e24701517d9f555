//! Arcee's AFM 4.5B: Llama's block with squared ReLU instead of a gate.

use realm_ir::Activation;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "arcee",
    window: Window::Never,
    feed_forward: FeedForward::Plain(Activation::ReluSquared),
    experts: None,
    ..llama::RECIPE
};
