//! Jina Embeddings 3: BERT with rotated heads (arXiv 2409.10173).

use realm_ir::RopeStyle;

use super::bert;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "jina-bert-v3",
    positions: Positions::Rope,
    rope_style: RopeStyle::Halves,
    ..bert::RECIPE
};
