//! GLM-4.5 and 4.6: experts chosen by sigmoid and a bias, behind some dense layers;
//! norms of heads in the large size (arXiv 2508.06471).

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "glm4moe",
    ffn_norm: "post_attention_norm",
    qk_norm: QkNorm::HeadsIfPresent,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: false }),
    ..llama::RECIPE
};
