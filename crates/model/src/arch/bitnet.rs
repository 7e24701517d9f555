//! BitNet b1.58: norms before the output matrices, ternary weights
//! (arXiv 2402.17764).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "bitnet",
    sub_norms: true,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
