//! Jina Embeddings 2: BERT with linear biases and a gated feed-forward part
//! (arXiv 2310.19923). Its code model norms queries and keys over all heads.

use realm_ir::Activation;

use super::bert;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "jina-bert-v2",
    positions: Positions::Alibi,
    qk_norm: QkNorm::RowIfPresent,
    feed_forward: FeedForward::Gated(Activation::GeluErf),
    ..bert::RECIPE
};
