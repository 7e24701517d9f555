//! Granite 3, dense: Llama's block with factors on embedding, residual, scores and
//! logits.

use super::llama;
use crate::hyperparameters::Keys;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "granite",
    // Files of models without positions say so by the key of a scaling that was never tuned.
    adjust: Some(|gguf, recipe| {
        let key = Keys::new(gguf, recipe.name).key("rope.scaling.finetuned");
        if gguf.metadata().bool(&key)? == Some(false) {
            recipe.positions = Positions::None;
        }
        Ok(())
    }),
    window: Window::Never,
    experts: None,
    logit_scale: LogitScale::Divide,
    ..llama::RECIPE
};
