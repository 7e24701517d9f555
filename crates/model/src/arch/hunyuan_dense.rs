//! Hunyuan, dense: a norm on each head behind its rotation.

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "hunyuan-dense",
    qk_norm: QkNorm::HeadsAfterRope,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
