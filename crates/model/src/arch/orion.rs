//! Orion: Llama's block with layer norms (arXiv 2401.12246).

use realm_ir::{NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "orion",
    norm: NormKind::Layer,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
