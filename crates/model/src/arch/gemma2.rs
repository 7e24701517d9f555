//! Gemma 2: norms before and after each part, every other layer with a window,
//! caps on attention scores and logits (arXiv 2408.00118).

use super::gemma;
use crate::hyperparameters::Keys;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma2",
    // In the 27B size scores have another scale (`query_pre_attn_scalar` 144), which files do
    // not say.
    adjust: Some(|gguf, recipe| {
        if Keys::new(gguf, recipe.name).n_layers()? == 46 {
            recipe.attention_scale = AttentionScale::EmbeddingShare;
        }
        Ok(())
    }),
    window: Window::Always(Layers::AllButLastOf(2)),
    post_norms: true,
    ..gemma::RECIPE
};
