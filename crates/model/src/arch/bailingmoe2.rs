//! Ling 2: experts in groups, chosen by sigmoid and a bias, behind some dense layers;
//! norms of heads (arXiv 2510.22115).

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "bailingmoe2",
    qk_norm: QkNorm::Heads,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: false }),
    ..llama::RECIPE
};
