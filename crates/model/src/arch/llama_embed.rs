//! Llama in which every position sees every other, for embeddings.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "llama-embed",
    is_encoder: true,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
