//! Qwen 1: queries, keys and values in one matrix with biases (arXiv 2309.16609).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen",
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    half_feed_forward: true,
    experts: None,
    ..llama::RECIPE
};
