//! Jamba: Mamba's scans, attention without positions in some layers, experts in some
//! (arXiv 2403.19887).

use realm_ir::Gating;

use super::mamba;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "jamba",
    experts: Some(Experts { gating: Gating::Softmax, normalize: false }),
    ..mamba::RECIPE
};
