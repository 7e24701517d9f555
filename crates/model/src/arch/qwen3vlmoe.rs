//! Qwen 3 VL with experts, text.

use super::qwen3moe;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "qwen3vlmoe", ..qwen3moe::RECIPE };
