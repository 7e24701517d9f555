//! DBRX: experts in every layer, queries, keys and values held to a range.

use realm_ir::{Gating, NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "dbrx",
    norm: NormKind::Layer,
    ffn_norm: "attn_output_norm",
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..llama::RECIPE
};
