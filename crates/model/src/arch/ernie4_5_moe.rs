//! ERNIE 4.5 with experts, chosen by score and a bias, behind some dense layers.

use realm_ir::Gating;

use super::ernie4_5;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "ernie4_5-moe",
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..ernie4_5::RECIPE
};
