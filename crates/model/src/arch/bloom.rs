//! BLOOM: linear biases on scores, a norm of the embedding (arXiv 2211.05100).

use super::gpt2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "bloom", positions: Positions::Alibi, ..gpt2::RECIPE };
