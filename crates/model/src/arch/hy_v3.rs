//! Hunyuan 3: experts chosen by sigmoid and a bias, one shared, behind some dense layers.

use realm_ir::Gating;

use super::hunyuan_dense;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "hy_v3",
    qk_norm: QkNorm::Heads,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    ..hunyuan_dense::RECIPE
};
