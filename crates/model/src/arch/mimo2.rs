//! MiMo V2: experts chosen by sigmoid and a bias; most layers have a window, sinks, heads of
//! their own number and a rotation of their own base.

use realm_ir::{Gating, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "mimo2",
    sinks: Sinks::IfPresent,
    window: Window::Always(Layers::All),
    rope_style: RopeStyle::Halves,
    window_rope: WindowRope::OwnBase(10_000.0),
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    ..llama::RECIPE
};
