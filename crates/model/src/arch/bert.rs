//! BERT and what is built like it: RoBERTa, XLM-R, MiniLM, BGE, E5 (arXiv 1810.04805).

use realm_ir::{Activation, NormKind};

use super::llama;
use crate::build::norms_behind;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "bert",
    is_encoder: true,
    positions: Positions::Learned,
    norm: NormKind::Layer,
    own_layer: Some(norms_behind),
    pre_norms: false,
    window: Window::Never,
    feed_forward: FeedForward::Plain(Activation::GeluErf),
    experts: None,
    ..llama::RECIPE
};
