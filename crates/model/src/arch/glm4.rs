//! GLM-4 of 2025: norms after attention and feed-forward as well as before.

use super::chatglm;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "glm4", post_norms: true, ..chatglm::RECIPE };
