//! Refact: Llama's block with linear biases on scores and one key and value head.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "refact",
    positions: Positions::Alibi,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
