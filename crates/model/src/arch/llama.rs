//! Llama 1 to 3 and everything converted as such: Mistral, TinyLlama, SmolLM ...
//!
//! Llama 3.1's scaling comes in the tensor `rope_freqs.weight`. Source of the
//! architecture: arXiv 2302.13971, 2407.21783.

use realm_ir::{Activation, RopeStyle};

use crate::recipe::{
    AttentionScale, EmbedScale, FeedForward, Layers, Qkv, Recipe, RopeBase, Window,
};

pub(super) const RECIPE: Recipe = Recipe {
    name: "llama",
    embed_scale: EmbedScale::One,
    qkv: Qkv::Separate,
    head_norm: false,
    attention_scale: AttentionScale::KeyWidth,
    window: Window::If(Layers::All),
    rope_style: RopeStyle::Interleaved,
    rope_base: RopeBase::FamilyDefault(10_000.0),
    rope_base_window: None,
    feed_forward: FeedForward::Gated(Activation::Silu),
    post_norms: false,
};
