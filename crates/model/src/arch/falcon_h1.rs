//! Falcon H1: Mamba 2's scan and attention side by side in every layer (arXiv 2507.22448).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "falcon-h1",
    recurrent: Recurrent::Mamba2BesideAttention,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
