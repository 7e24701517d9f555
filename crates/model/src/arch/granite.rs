//! Granite 3, dense: Llama's block with factors on embedding, residual, scores and
//! logits.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "granite",
    positions: Positions::RopeByKey,
    window: Window::Never,
    experts: None,
    logit_scale: LogitScale::Divide,
    ..llama::RECIPE
};
