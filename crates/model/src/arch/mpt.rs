//! MPT: linear biases on scores; norms of queries and keys in some.
//!
//! Those that hold queries, keys and values to a range are refused.

use realm_ir::Activation;

use super::gpt2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "mpt",
    positions: Positions::Alibi,
    qk_norm: QkNorm::RowIfPresent,
    feed_forward: FeedForward::Plain(Activation::GeluErf),
    ..gpt2::RECIPE
};
