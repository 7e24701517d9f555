//! Granite 3 with experts.

use realm_ir::Gating;

use super::granite;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "granitemoe",
    experts: Some(Experts { gating: Gating::SoftmaxOfChosen, normalize: true }),
    ..granite::RECIPE
};
