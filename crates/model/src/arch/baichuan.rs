//! Baichuan 1 and 2 (arXiv 2309.10305).

use super::llama;
use crate::hyperparameters::Keys;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "baichuan",
    // The 13B size has linear biases instead of a rotation, which files do not say.
    adjust: Some(|gguf, recipe| {
        if Keys::new(gguf, recipe.name).n_layers()? == 40 {
            recipe.positions = Positions::Alibi;
        }
        Ok(())
    }),
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
