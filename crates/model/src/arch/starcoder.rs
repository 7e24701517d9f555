//! StarCoder: GPT-2 with one key and value head (arXiv 2305.06161).

use super::gpt2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "starcoder", ..gpt2::RECIPE };
