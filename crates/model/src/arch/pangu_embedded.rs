//! openPangu Embedded: Llama's block with biases in attention (arXiv 2505.22375).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "pangu-embedded",
    qkv_bias: true,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
