//! Maincoder: Llama's block with a norm on each head behind its rotation.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "maincoder",
    qk_norm: QkNorm::HeadsAfterRope,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
