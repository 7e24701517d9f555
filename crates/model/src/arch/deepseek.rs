//! DeepSeek MoE: experts of which some are shared, behind some dense layers
//! (arXiv 2401.06066).

use realm_ir::Gating;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "deepseek",
    window: Window::Never,
    experts: Some(Experts { gating: Gating::Softmax, normalize: false }),
    ..llama::RECIPE
};
