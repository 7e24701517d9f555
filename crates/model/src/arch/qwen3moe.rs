//! Qwen 3 with experts (arXiv 2505.09388).

use realm_ir::Gating;

use super::qwen3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen3moe",
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..qwen3::RECIPE
};
