//! Gemma 3n, text: Gemma 3 with four streams of hidden state of which layers run on one
//! (AltUp, arXiv 2301.13310), a low-rank part beside attention (Laurel, arXiv 2411.07501),
//! sparse gates in its first layers, inputs of each layer's own, and last layers that share
//! keys and values.
//!
//! Source: `modeling_gemma3n` in transformers, and what llama.cpp reads of its files.
//! The two differ in the deviation by which gates are cut off: here it is llama.cpp's, of a
//! sample; at real widths, 8192 and more, that is a difference of 6e-5 of itself.
//! Files do not say all of it: the cap on logits is the family's where they leave it out.

use super::gemma3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma3n",
    adjust: None,
    altup: true,
    value_norm: true,
    attention_scale: AttentionScale::Always(1.0),
    window: Window::Always(Layers::AllButLastOf(5)),
    logit_softcap: Some(30.0),
    ..gemma3::RECIPE
};
