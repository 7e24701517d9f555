//! dots.llm1: experts chosen by sigmoid and a bias, some of them shared, norms of heads
//! (arXiv 2506.05767).

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "dots1",
    qk_norm: QkNorm::Heads,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: false }),
    ..llama::RECIPE
};
