//! Qwen 3.5, dense: a gated delta rule in three layers of four, gated attention in
//! the others (arXiv 2412.06464, 2505.06708).
//!
//! The rotation's sections for images all turn by the same position in text.

use super::qwen3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen35",
    ffn_norm: "post_attention_norm",
    recurrent: Recurrent::DeltaNet { grouped: false },
    attention_gate: AttentionGate::Queries,
    ..qwen3::RECIPE
};
