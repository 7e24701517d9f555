//! Gemma 4, text: Gemma 3 with heads of two widths, values normed like keys, and in its
//! sizes inputs of each layer's own, keys and values shared between layers, or experts
//! beside the dense part.
//!
//! Source: `modeling_gemma4` in transformers, and what llama.cpp reads of its files.
//! Layers without a window turn only a part of each head: the file's `rope_freqs` leave
//! the other pairs where they are.

use realm_ir::{Add, Gating, Linear, Norm, NormKind, Slot, Step};

use super::gemma3;
use crate::build::{LayerBuilder, LayerSlots};
use crate::error::Result;
use crate::hyperparameters::LayerHyperparameters;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "gemma4",
    // Without its divisors the rotation would be another one.
    adjust: Some(|gguf, _| {
        gguf.require_tensor("rope_freqs.weight")?;
        Ok(())
    }),
    value_norm: true,
    attention_scale: AttentionScale::Always(1.0),
    window: Window::ByKey,
    rope_base: RopeBase::Required,
    experts: Some(Experts { gating: Gating::Softmax, normalize: true }),
    own_feed_forward: Some(feed_forward),
    ..gemma3::RECIPE
};

/// A dense part, in layers with experts beside them: both read the same hidden state, each
/// behind norms of its own, and are summed before the last.
fn feed_forward(
    layers: &mut LayerBuilder<'_>,
    index: usize,
    layer: &LayerHyperparameters,
    input: Slot,
) -> Result<()> {
    let name = |part: &str| format!("blk.{index}.{part}");
    let Some(experts) = layers.numbers.experts.filter(|_| layer.has_experts) else {
        return layers.dense(index, layer, input);
    };
    let LayerSlots { hidden, normed, normed_beside, gate, block, .. } = layers.slots;
    let (width, inner) = (layers.numbers.embedding_length, layer.feed_forward_length);
    layers.gated(index, "", inner, layer.activation, input)?;
    let outputs = vec![layers.linear(&name("ffn_down"), &[inner, width], block)?];
    layers.builder.push(Step::Linear(Linear { input: gate, outputs }));
    layers.norm(&name("post_ffw_norm_1"), block, block)?;

    layers.norm(&name("pre_ffw_norm_2"), hidden, normed)?;
    router_norm(layers, &name("ffn_gate_inp.scale"), hidden, normed_beside)?;
    let result = layers.builder.batch_slot(width);
    layers.moe(index, &experts, layer, [normed, normed_beside], result)?;
    layers.norm(&name("post_ffw_norm_2"), result, result)?;
    let add = Add { a: block, b: result, out: block, a_scale: 1.0, scale: 1.0 };
    layers.builder.push(Step::Add(add));
    layers.add_block(index, "post_ffw_norm")
}

/// The norm of a router's input, whose factors are divided by the root of its width.
fn router_norm(layers: &mut LayerBuilder<'_>, name: &str, input: Slot, out: Slot) -> Result<()> {
    let width = layers.numbers.embedding_length;
    let mut factors = layers.builder.values(name, &[width])?;
    factors.iter_mut().for_each(|factor| *factor /= (width as f32).sqrt());
    let weight = Some(layers.builder.constant(name, &factors)?);
    let (kind, epsilon) = (NormKind::Rms, layers.numbers.epsilon);
    let norm = Norm { input, out, kind, groups: 1, width, weight, bias: None, epsilon };
    layers.builder.push(Step::Norm(norm));
    Ok(())
}
