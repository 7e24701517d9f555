//! LFM 2 with experts chosen by sigmoid and a bias, behind some dense layers.

use realm_ir::Gating;

use super::lfm2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "lfm2moe",
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    ..lfm2::RECIPE
};
