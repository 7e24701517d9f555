//! EuroBERT: an encoder of Llama's blocks (arXiv 2503.05500).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "eurobert",
    is_encoder: true,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
