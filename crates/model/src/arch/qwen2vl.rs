//! Qwen 2 and 2.5 VL, text: its positions are the same in every section of a head, so
//! the rotation is that of Qwen 2 (arXiv 2409.12191).

use super::qwen2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "qwen2vl", ..qwen2::RECIPE };
