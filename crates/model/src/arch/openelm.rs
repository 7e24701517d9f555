//! OpenELM: as many heads and as wide a feed-forward part as each layer needs, norms of
//! heads (arXiv 2404.14619).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "openelm",
    qk_norm: QkNorm::Heads,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
