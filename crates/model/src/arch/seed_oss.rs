//! Seed-OSS: Llama's block with biases on queries, keys and values; heads wider than
//! their share of the embedding.

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "seed_oss",
    ffn_norm: "post_attention_norm",
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
