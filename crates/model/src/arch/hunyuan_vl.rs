//! Hunyuan VL, text: the dense model with the rotation divided into sections for images.

use super::hunyuan_dense;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "hunyuan_vl", ..hunyuan_dense::RECIPE };
