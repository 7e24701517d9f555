//! Nemotron 3: Nemotron-H with experts, chosen by sigmoid and a bias, as feed-forward parts.

use realm_ir::Gating;

use super::nemotron_h;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "nemotron_h_moe",
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    ..nemotron_h::RECIPE
};
