//! OLMo 2 and 3: norms after attention and feed-forward instead of before, and over
//! all queries and all keys (arXiv 2501.00656).
//!
//! OLMo 3 has a window in three layers of four, and those ignore YaRN (arXiv 2512.13961).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "olmo2",
    pre_norms: false,
    post_norms: true,
    qk_norm: QkNorm::Row,
    window: Window::If(Layers::AllButLastOf(4)),
    window_rope: WindowRope::Unscaled,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
