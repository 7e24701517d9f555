//! Mellum 2: Qwen 3 with experts and a window in three layers of four, which ignore YaRN.

use super::qwen3moe;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "mellum",
    window: Window::If(Layers::AllButLastOf(4)),
    window_rope: WindowRope::Unscaled,
    ..qwen3moe::RECIPE
};
