//! Qwen 3, dense: a norm on each head instead of Qwen 2's biases (arXiv 2505.09388).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::{Recipe, RopeBase, Window};

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen3",
    head_norm: true,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    rope_base: RopeBase::Required,
    ..llama::RECIPE
};
