//! MiniMax M2: experts in every layer, chosen by sigmoid and a bias; norms over all
//! queries and all keys, half-rotated heads.

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "minimax-m2",
    qk_norm: QkNorm::Row,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    ..llama::RECIPE
};
