//! SmallThinker: the router reads the layer's input, so that experts can be fetched while
//! attention runs; a window in three layers of four, and only those rotate
//! (arXiv 2507.20984).

use realm_ir::{Activation, Gating, RopeStyle};

use super::llama;
use crate::build::{LayerBuilder, LayerSlots};
use crate::error::Result;
use crate::hyperparameters::LayerHyperparameters;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "smallthinker",
    window: Window::If(Layers::AllButFirstOf(4)),
    rope_style: RopeStyle::Halves,
    rope_layers: RopeLayers::WithWindow,
    feed_forward: FeedForward::Gated(Activation::Relu),
    experts: Some(Experts { gating: Gating::Sigmoid, normalize: true }),
    own_layer: Some(layer),
    ..llama::RECIPE
};

/// One layer, whose router reads what was there before attention and its norm.
fn layer(layers: &mut LayerBuilder<'_>, index: usize, layer: &LayerHyperparameters) -> Result<()> {
    let LayerSlots { hidden, normed, normed_beside: before, .. } = layers.slots;
    layers.keep_hidden(before);
    let input = layers.pre_norm(&format!("blk.{index}.attn_norm"), hidden, normed)?;
    layers.mixer(index, layer, input)?;
    let input = layers.pre_norm(&format!("blk.{index}.ffn_norm"), hidden, normed)?;
    layers.dense_or_experts(index, layer, [input, before])
}
