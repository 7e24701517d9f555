//! Llama without order, to embed.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "llama-embed",
    is_encoder: true,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
