//! Qwen 3.5 and 3.6 with experts, one of them shared behind a gate.

use realm_ir::Gating;

use super::qwen35;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen35moe",
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..qwen35::RECIPE
};
