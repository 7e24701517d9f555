//! Jina Embeddings 2: BERT with linear biases and a gated feed-forward part
//! (arXiv 2310.19923). Its code model norms queries and keys over all heads, and adds each
//! layer's input a second time.

use realm_ir::{Activation, Add, Step};

use super::bert;
use crate::build::{LayerBuilder, LayerSlots, norms_behind};
use crate::error::Result;
use crate::hyperparameters::LayerHyperparameters;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "jina-bert-v2",
    positions: Positions::Alibi,
    qk_norm: QkNorm::RowIfPresent,
    feed_forward: FeedForward::Gated(Activation::GeluErf),
    own_layer: Some(layer),
    ..bert::RECIPE
};

/// One layer. In the code model another norm follows that behind attention, of its result and
/// once more the layer's input.
fn layer(layers: &mut LayerBuilder<'_>, index: usize, layer: &LayerHyperparameters) -> Result<()> {
    let name = |part: &str| format!("blk.{index}.{part}");
    if !layers.builder.contains(&name("attn_norm_2.weight")) {
        return norms_behind(layers, index, layer);
    }
    let LayerSlots { hidden, block: before, .. } = layers.slots;
    layers.keep_hidden(before);
    layers.mixer(index, layer, hidden)?;
    layers.norm(&name("attn_output_norm"), hidden, hidden)?;
    let add = Add { a: hidden, b: before, out: hidden, a_scale: 1.0, scale: 1.0 };
    layers.builder.push(Step::Add(add));
    layers.norm(&name("attn_norm_2"), hidden, hidden)?;
    layers.feed_forward(index, layer, hidden)?;
    layers.norm(&name("layer_output_norm"), hidden, hidden)
}
