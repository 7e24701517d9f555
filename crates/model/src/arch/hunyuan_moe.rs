//! Hunyuan A13B: experts in every layer, one of them shared (arXiv 2411.02265).

use realm_ir::Gating;

use super::hunyuan_dense;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "hunyuan-moe",
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..hunyuan_dense::RECIPE
};
