//! Jais: linear biases on scores, layer norms, scores over the width of a head instead
//! of its root (arXiv 2308.16149). Factors on embedding and logits are in the weights.

use realm_ir::NormKind;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "jais",
    positions: Positions::Alibi,
    norm: NormKind::Layer,
    attention_scale: AttentionScale::InverseKeyWidth,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
