//! Gemma 3, text: Gemma 2 with a norm on each head instead of the caps, five
//! layers of six with a window, and their own rotation (arXiv 2503.19786).

use super::gemma2;
use crate::hyperparameters::Keys;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma3",
    // In the 27B size scores have another scale (`query_pre_attn_scalar` 168), which files do
    // not say.
    adjust: Some(|gguf, recipe| {
        if Keys::new(gguf, recipe.name).n_layers()? == 62 {
            recipe.attention_scale = AttentionScale::EmbeddingShare;
        }
        Ok(())
    }),
    qk_norm: QkNorm::Heads,
    window: Window::Always(Layers::AllButLastOf(6)),
    rope_base: RopeBase::FamilyDefault(1_000_000.0),
    window_rope: WindowRope::OwnBase(10_000.0),
    ..gemma2::RECIPE
};
