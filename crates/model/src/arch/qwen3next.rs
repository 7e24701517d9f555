//! Qwen 3 Next: a gated delta rule in three layers of four, gated attention in the others,
//! experts in all. The value heads of a key head are neighbours.

use super::qwen35moe;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "qwen3next",
    recurrent: Recurrent::DeltaNet { grouped: true },
    ..qwen35moe::RECIPE
};
