//! Qwen 1.5 and 2 with experts, one of them shared behind a gate (arXiv 2407.10671).

use realm_ir::Gating;

use super::qwen2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen2moe",
    experts: Some(Experts { gating: Gating::Softmax, normalize: false }),
    ..qwen2::RECIPE
};
