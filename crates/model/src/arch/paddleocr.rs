//! PaddleOCR VL, text: ERNIE 4.5 with the rotation divided into sections for images.

use super::ernie4_5;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "paddleocr", ..ernie4_5::RECIPE };
