//! SmolLM 3: Llama's block without rotation in every fourth layer.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "smollm3",
    window: Window::Never,
    rope_layers: RopeLayers::Of(Layers::AllButLastOf(4)),
    experts: None,
    ..llama::RECIPE
};
