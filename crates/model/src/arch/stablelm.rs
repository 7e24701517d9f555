//! StableLM 2 and StableLM 3B: layer norms, a quarter of each head rotates
//! (arXiv 2402.17834).

use realm_ir::{NormKind, RopeStyle};

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "stablelm",
    norm: NormKind::Layer,
    block: Block::ParallelWithoutFfnNorm,
    qk_norm: QkNorm::EachHeadIfPresent,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    ..llama::RECIPE
};
