//! StableLM 2 and StableLM 3B: layer norms, a quarter of each head rotates
//! (arXiv 2402.17834).

use realm_ir::{NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "stablelm",
    // The 12B size has one norm for both parts, which are then side by side.
    adjust: Some(|gguf, recipe| {
        if gguf.tensor("blk.0.ffn_norm.weight").is_none() {
            recipe.block = Block::Parallel;
        }
        Ok(())
    }),
    norm: NormKind::Layer,
    qk_norm: QkNorm::EachHeadIfPresent,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
