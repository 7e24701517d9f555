//! MiniCPM 1 and 4: Llama's block with factors on embedding, residual and logits
//! (arXiv 2404.06395). Files older than these keys are refused.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "minicpm",
    window: Window::Never,
    logit_scale: LogitScale::Divide,
    ..llama::RECIPE
};
