//! Phi 3.5 with experts: Llama's block with biases and LongRoPE (arXiv 2404.14219).
//!
//! Norms and routing as llama.cpp runs these files: root mean square, and softmax over the
//! two best. The original has layer norms and SparseMixer.

use realm_ir::Gating;

use super::phi3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "phimoe",
    window: Window::Never,
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..phi3::RECIPE
};
