//! LFM 2: short gated convolutions, and attention with a norm on each head in some
//! layers. Source: Liquid AI's reference in transformers (`modeling_lfm2`).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "lfm2",
    qk_norm: QkNorm::Heads,
    recurrent: Recurrent::ShortConv,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    rope_base: RopeBase::Required,
    experts: None,
    output_norm: "token_embd_norm",
    ..llama::RECIPE
};
