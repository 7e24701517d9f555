//! Qwen 3 VL, text: its positions are the same in every section of a head, so the
//! rotation is that of Qwen 3.

use super::qwen3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "qwen3vl", ..qwen3::RECIPE };
