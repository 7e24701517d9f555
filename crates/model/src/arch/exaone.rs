//! EXAONE 3 (arXiv 2408.03541).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "exaone",
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
