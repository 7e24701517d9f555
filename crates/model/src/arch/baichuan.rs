//! Baichuan 1 and 2 (arXiv 2309.10305). The 13B size (40 layers) has linear biases
//! instead of a rotation, which files do not say.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "baichuan",
    positions: Positions::AlibiIfLayers(40),
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
