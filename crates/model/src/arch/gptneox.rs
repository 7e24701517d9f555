//! GPT-NeoX and Pythia: attention and feed-forward, each with its layer norm, side by side
//! or one after the other (arXiv 2204.06745).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::hyperparameters::Keys;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gptneox",
    adjust: Some(|gguf, recipe| {
        let key = Keys::new(gguf, recipe.name).key("use_parallel_residual");
        recipe.block = match gguf.metadata().require_bool(&key)? {
            true => Block::Parallel,
            false => Block::Sequential,
        };
        Ok(())
    }),
    norm: NormKind::Layer,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    feed_forward: FeedForward::Plain(Activation::GeluErf),
    experts: None,
    ..llama::RECIPE
};
