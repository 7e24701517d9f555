//! Qwen 2 and 2.5: Llama's block with biases on queries, keys and values
//! (arXiv 2407.10671).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen2",
    qkv_bias: true,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    rope_base: RopeBase::Required,
    experts: None,
    ..llama::RECIPE
};
