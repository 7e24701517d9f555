//! Phi 3 and 3.5, dense: Llama's block with queries, keys and values in one
//! matrix, gate and up in another, and LongRoPE in the long-context files
//! (arXiv 2404.14219, 2402.13753).

use realm_ir::{Activation, RopeStyle};

use super::llama;
use crate::recipe::{FeedForward, Layers, Qkv, Recipe, Window};

pub(super) const RECIPE: Recipe = Recipe {
    name: "phi3",
    qkv: Qkv::Fused,
    window: Window::If(Layers::All),
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::GatedFused(Activation::Silu),
    ..llama::RECIPE
};
