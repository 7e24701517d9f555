//! K-EXAONE: experts chosen by sigmoid and a bias; a window in three layers of four,
//! and only those rotate.

use realm_ir::Gating;

use super::exaone;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "exaone-moe",
    qk_norm: QkNorm::Heads,
    window: Window::Always(Layers::AllButLastOf(4)),
    rope_layers: RopeLayers::WithWindow,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: false }),
    ..exaone::RECIPE
};
