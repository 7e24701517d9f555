//! ModernBERT: an encoder with norms before its parts, of which the first layer has none, and
//! a window to either side in two layers of three (arXiv 2412.13663).

use realm_ir::{Activation, NormKind, RopeStyle};

use super::llama;
use crate::build::LayerSlots;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "modern-bert",
    is_encoder: true,
    norm: NormKind::Layer,
    // The norm of the embedding is the first layer's.
    own_layer: Some(|layers, index, layer| {
        if index > 0 {
            return layers.block(index, layer);
        }
        let LayerSlots { hidden, normed, .. } = layers.slots;
        layers.mixer(index, layer, hidden)?;
        let input = layers.pre_norm("blk.0.ffn_norm", hidden, normed)?;
        layers.feed_forward(index, layer, input)
    }),
    window: Window::Always(Layers::AllButFirstOf(3)),
    rope_style: RopeStyle::Halves,
    window_rope: WindowRope::OwnBase(10_000.0),
    feed_forward: FeedForward::Gated(Activation::GeluErf),
    experts: None,
    ..llama::RECIPE
};
