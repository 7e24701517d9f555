//! Qwen 3, dense: a norm on each head instead of Qwen 2's biases (arXiv 2505.09388).

use super::qwen2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "qwen3", qkv_bias: false, qk_norm: QkNorm::Heads, ..qwen2::RECIPE };
