//! Command R7B: Command R with a window in three layers of four, and only those
//! rotate (arXiv 2504.00698).

use super::command_r;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "cohere2",
    qk_norm: QkNorm::None,
    window: Window::Always(Layers::AllButLastOf(4)),
    rope_layers: RopeLayers::WithWindow,
    ..command_r::RECIPE
};
