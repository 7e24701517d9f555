//! Llama 4, text: experts that weigh their input, one shared, in every layer or every
//! second; three layers of four rotate and see chunks of 8192 positions, in the others
//! queries grow with their position.

use realm_ir::{Gating, Temperature};

use super::llama;
use crate::hyperparameters::Keys;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "llama4",
    // Maverick, the size with 128 experts, has no norms of heads, which files do not say.
    adjust: Some(|gguf, recipe| {
        let key = Keys::new(gguf, recipe.name).key("expert_count");
        if gguf.metadata().u32(&key)? == Some(128) {
            recipe.qk_norm = QkNorm::None;
        }
        Ok(())
    }),
    qk_norm: QkNorm::BareHeads,
    query_temperature: QueryTemperature::Unrotated(Temperature {
        scale: 0.1,
        length: 8192,
        offset: 1,
    }),
    window: Window::Default(8192, Layers::AllButLastOf(4)),
    chunked_window: true,
    rope_layers: RopeLayers::WithWindow,
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: false }),
    experts_weigh_input: true,
    ..llama::RECIPE
};
