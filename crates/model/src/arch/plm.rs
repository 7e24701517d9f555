//! PLM: keys and values from a shared latent, squared ReLU without a gate
//! (arXiv 2503.12167).

use realm_ir::Activation;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "plm",
    latent: true,
    window: Window::Never,
    feed_forward: FeedForward::Plain(Activation::ReluSquared),
    experts: None,
    ..llama::RECIPE
};
