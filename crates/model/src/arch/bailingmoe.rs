//! Ling 1: experts of which some are shared (arXiv 2503.05139).

use super::deepseek;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "bailingmoe", ..deepseek::RECIPE };
