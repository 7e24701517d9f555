//! OLMoE: experts in every layer, norms over all queries and all keys
//! (arXiv 2409.02060).

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "olmoe",
    qk_norm: QkNorm::Row,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: Some(Experts { gating: Gating::Softmax, normalize: false }),
    ..llama::RECIPE
};
