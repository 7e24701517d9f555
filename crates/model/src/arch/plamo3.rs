//! PLaMo 3: Gemma's norms on both sides of each part, a norm on each head, and a window in
//! most layers.

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "plamo3",
    post_norms: true,
    qk_norm: QkNorm::Heads,
    window: Window::If(Layers::AllButLastOf(8)),
    rope_style: RopeStyle::Halves,
    window_rope: WindowRope::OwnBase(10_000.0),
    experts: None,
    ..llama::RECIPE
};
