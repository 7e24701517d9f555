//! Gemma 4, text: Gemma 3 with heads of two widths, values normed like keys, and in its
//! sizes inputs of each layer's own, keys and values shared between layers, or experts
//! beside the dense part.
//!
//! Source: `modeling_gemma4` in transformers, and what llama.cpp reads of its files.
//! Layers without a window turn only a part of each head: the file's `rope_freqs` leave
//! the other pairs where they are.

use realm_ir::Gating;

use super::gemma3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma4",
    value_norm: true,
    attention_scale: AttentionScale::Always(1.0),
    window: Window::ByKey,
    rope_base: RopeBase::Required,
    needs_rope_freqs: true,
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    ..gemma3::RECIPE
};
