//! OLMo 2: norms after attention and feed-forward instead of before, and over all
//! queries and all keys (arXiv 2501.00656).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "olmo2",
    pre_norms: false,
    post_norms: true,
    qk_norm: QkNorm::Row,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
