//! The numbers of a model, read from metadata and checked once.

mod attention;
mod experts;
mod keys;
mod recurrent;

use realm_gguf::Gguf;
use realm_ir::NormKind;

use crate::error::{Error, Result};
use crate::recipe::{
    Block, EmbedScale, LogitScale, Positions, Recipe, Recurrent, ResidualScale, RopeBase,
    RopeLayers,
};

pub use attention::LatentHyperparameters;
pub use experts::ExpertHyperparameters;
pub use recurrent::DeltaNetHyperparameters;

pub(crate) use keys::Keys;

use attention::{
    attention_scale, head_width, latent, latent_scale, refuse_clamped_attention, windows,
};
use experts::experts;
use keys::MAX_COUNT;
use recurrent::{conv_taps, delta_net, recurrent_layers};

/// Numbers of one model. Everything the builder multiplies, divides by or
/// indexes with has been checked.
#[derive(Clone, Debug)]
pub struct Hyperparameters {
    /// Width of the hidden state.
    pub embedding_length: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// One entry per layer.
    pub layers: Vec<LayerHyperparameters>,
    /// Values per query and key head.
    pub key_length: usize,
    /// Values per value head.
    pub value_length: usize,
    /// Widths of latent attention.
    pub latent: Option<LatentHyperparameters>,
    /// Taps of the convolutions in recurrent layers.
    pub conv_taps: usize,
    /// Widths of the gated delta rule.
    pub delta_net: Option<DeltaNetHyperparameters>,
    /// Values of each recurrent step's state.
    pub state_widths: Vec<usize>,
    /// Values of a head that rotate; even, at most `key_length`.
    pub rope_dimension_count: usize,
    /// Base of the rotation's frequencies.
    pub rope_base: f32,
    /// Epsilon of the norms.
    pub epsilon: f32,
    /// Whether a position sees only those before it; decoders that were trained on to
    /// embed say that it does not (`attention.causal`).
    pub is_causal: bool,
    /// Whether attention and feed-forward read the same state.
    pub is_parallel: bool,
    /// Factor on the embedding.
    pub embed_scale: f32,
    /// Factor on what a block adds to the hidden state.
    pub residual_scale: f32,
    /// Factor on logits.
    pub logit_scale: f32,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// Cap on attention scores.
    pub attention_softcap: Option<f32>,
    /// Largest slope of linear biases.
    pub alibi_max_bias: Option<f32>,
    /// Cap on logits.
    pub logit_softcap: Option<f32>,
    /// Experts of the layers that have them.
    pub experts: Option<ExpertHyperparameters>,
    /// Entries of the vocabulary.
    pub n_vocab: usize,
}

/// What mixes the positions of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Attention, with its index among the layers that attend.
    Attention(usize),
    /// A short convolution, with its index among the recurrent steps.
    ShortConv(usize),
    /// A convolution and a gated delta rule, with the first of their two indices.
    DeltaNet(usize),
}

/// Numbers that can differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerHyperparameters {
    /// What mixes positions.
    pub mixer: Mixer,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of the feed-forward part.
    pub feed_forward_length: usize,
    /// Positions the layer sees; none sees all.
    pub window: Option<u32>,
    /// Whether queries and keys rotate.
    pub rotates: bool,
    /// Whether the feed-forward part is a mixture of experts.
    pub has_experts: bool,
}

impl Hyperparameters {
    /// Reads and checks the numbers that `recipe` needs.
    ///
    /// # Errors
    /// A missing key, a value of the wrong type or out of range, or two that
    /// contradict each other; named with what was found and expected.
    pub fn read(gguf: &Gguf, recipe: &Recipe) -> Result<Self> {
        let keys = Keys { metadata: gguf.metadata(), architecture: recipe.name };
        let embedding_length = keys.count("embedding_length", None)?;
        let context_length = keys.count("context_length", None)?;
        let n_blocks = keys.count("block_count", None)?;
        if n_blocks > gguf.tensors().len() {
            let expected =
                format!("at most one per tensor, and there are {}", gguf.tensors().len());
            return Err(Error::invalid(keys.key("block_count"), n_blocks, expected));
        }
        let n_layers = n_blocks - n_predict_layers(&keys, n_blocks)?;
        refuse_clamped_attention(&keys)?;
        let heads = keys.per_layer("attention.head_count", n_blocks, None)?;
        let least = u32::from(recipe.recurrent == Recurrent::None);
        let mut kv_heads =
            keys.per_layer_from("attention.head_count_kv", n_blocks, Some(&heads), least)?;
        let mut feed_forward = keys.per_layer("feed_forward_length", n_blocks, None)?;
        if recipe.half_feed_forward {
            feed_forward.iter_mut().for_each(|length| *length /= 2);
        }
        let mut key_length = head_width(&keys, "attention.key_length", embedding_length, heads[0])?;
        let mut value_length =
            head_width(&keys, "attention.value_length", embedding_length, heads[0])?;
        let latent = latent(&keys, recipe, key_length, value_length)?;
        if let Some(latent) = &latent {
            // One key serves all heads: the latent, then the values that rotate.
            kv_heads.fill(1);
            (key_length, value_length) = (latent.kv_rank + latent.rotating, latent.kv_rank);
        }
        let windows = windows(&keys, recipe, n_blocks, context_length)?;
        let experts = experts(&keys, recipe, feed_forward[0])?;
        let n_dense = keys.metadata.u32(&keys.key("leading_dense_block_count"))?.unwrap_or(0);
        let expert_step = keys.count("interleave_moe_layer_step", Some(1))?;
        let has_alibi = match recipe.positions {
            Positions::Alibi => true,
            Positions::AlibiIfLayers(n) => n == n_layers,
            Positions::Rope | Positions::Learned => false,
        };
        let can_rotate = !has_alibi && recipe.positions != Positions::Learned;

        let conv_taps = conv_taps(&keys, recipe)?;
        let delta_net = delta_net(&keys, recipe)?;
        let is_recurrent = recurrent_layers(&keys, recipe, &kv_heads)?;
        let mut state_widths = Vec::new();
        let mut n_attending = 0;
        let mut layers = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let (n_heads, n_kv_heads) = (heads[layer], kv_heads[layer]);
            let mixer = match (is_recurrent[layer], delta_net) {
                (false, _) => Mixer::Attention(n_attending),
                (true, None) => Mixer::ShortConv(state_widths.len()),
                (true, Some(_)) => Mixer::DeltaNet(state_widths.len()),
            };
            match mixer {
                Mixer::Attention(_) => n_attending += 1,
                Mixer::ShortConv(_) => state_widths.push((conv_taps - 1) * embedding_length),
                Mixer::DeltaNet(_) => {
                    let net = delta_net.expect("the mixer says so");
                    state_widths.push((conv_taps - 1) * net.qkv_width());
                    state_widths.push(net.n_value_heads * net.key_width * net.value_width);
                }
            }
            let n_kv_heads = if is_recurrent[layer] { n_kv_heads.max(1) } else { n_kv_heads };
            if n_kv_heads == 0 || (!is_recurrent[layer] && n_heads % n_kv_heads != 0) {
                let expected = format!("a divisor of {n_heads}, the heads of layer {layer}");
                return Err(Error::invalid(
                    keys.key("attention.head_count_kv"),
                    n_kv_heads,
                    expected,
                ));
            }
            let rotates = match recipe.rope_layers {
                RopeLayers::Of(layers) => layers.contains(layer),
                RopeLayers::WithWindow => {
                    windows[layer].is_some() || windows.iter().all(Option::is_none)
                }
            };
            layers.push(LayerHyperparameters {
                mixer,
                n_heads,
                n_kv_heads,
                feed_forward_length: feed_forward[layer],
                window: windows[layer],
                rotates: rotates && can_rotate,
                has_experts: experts.is_some()
                    && layer >= n_dense as usize
                    && (layer + 1).is_multiple_of(expert_step),
            });
        }
        Ok(Hyperparameters {
            conv_taps,
            delta_net,
            state_widths,
            rope_dimension_count: rope_dimension_count(&keys, key_length)?,
            rope_base: rope_base(&keys, recipe)?,
            epsilon: keys.require_positive(match recipe.norm {
                NormKind::Rms => "attention.layer_norm_rms_epsilon",
                NormKind::Layer => "attention.layer_norm_epsilon",
            })?,
            is_causal: keys
                .metadata
                .bool(&keys.key("attention.causal"))?
                .unwrap_or(!recipe.is_encoder),
            is_parallel: is_parallel(&keys, recipe)?,
            embed_scale: match recipe.embed_scale {
                EmbedScale::Key => keys.positive("embedding_scale")?.unwrap_or(1.0),
                EmbedScale::SqrtWidth => (embedding_length as f32).sqrt(),
                EmbedScale::Always(scale) => scale,
            },
            residual_scale: match recipe.residual_scale {
                ResidualScale::Key => keys.positive("residual_scale")?.unwrap_or(1.0),
                ResidualScale::OverSqrtLayers(scale) => scale / (n_layers as f32).sqrt(),
            },
            logit_scale: logit_scale(&keys, recipe, embedding_length)?,
            attention_scale: match (keys.positive("attention.scale")?, &latent) {
                (Some(scale), _) => scale,
                (None, Some(latent)) => latent_scale(&keys, latent)?,
                (None, None) => attention_scale(recipe, &layers, embedding_length, key_length),
            },
            attention_softcap: keys.cap("attn_logit_softcapping")?,
            // Where a family fixes the slopes, converters leave the key out: they are
            // then those of the method's definition (arXiv 2108.12409).
            alibi_max_bias: match has_alibi {
                true => Some(keys.positive("attention.max_alibi_bias")?.unwrap_or(8.0)),
                false => None,
            },
            logit_softcap: keys.cap("final_logit_softcapping")?,
            n_vocab: n_vocab(gguf)?,
            experts,
            latent,
            embedding_length,
            context_length,
            layers,
            key_length,
            value_length,
        })
    }
}

/// Blocks at the end that predict tokens further ahead and that nothing else needs
/// (`nextn_predict_layers`, arXiv 2412.19437 section 2.2).
fn n_predict_layers(keys: &Keys<'_>, n_blocks: usize) -> Result<usize> {
    let key = keys.key("nextn_predict_layers");
    let n = keys.metadata.u32(&key)?.unwrap_or(0) as usize;
    if n >= n_blocks {
        return Err(Error::invalid(key, n, format!("fewer than the {n_blocks} blocks")));
    }
    Ok(n)
}

fn is_parallel(keys: &Keys<'_>, recipe: &Recipe) -> Result<bool> {
    match recipe.block {
        Block::Sequential => Ok(false),
        Block::Parallel => Ok(true),
        Block::ByKey => Ok(keys.metadata.require_bool(&keys.key("use_parallel_residual"))?),
    }
}

fn logit_scale(keys: &Keys<'_>, recipe: &Recipe, embedding_length: usize) -> Result<f32> {
    match recipe.logit_scale {
        LogitScale::None => Ok(1.0),
        LogitScale::Multiply => keys.require_positive("logit_scale"),
        LogitScale::Divide => Ok(1.0 / keys.require_positive("logit_scale")?),
        LogitScale::OverWidth(scale) => Ok(scale / embedding_length as f32),
    }
}

fn rope_dimension_count(keys: &Keys<'_>, key_length: usize) -> Result<usize> {
    let count = keys.count("rope.dimension_count", Some(key_length))?;
    if count > key_length || !count.is_multiple_of(2) {
        let expected = format!("an even number up to {key_length}, the width of a head");
        return Err(Error::invalid(keys.key("rope.dimension_count"), count, expected));
    }
    Ok(count)
}

fn rope_base(keys: &Keys<'_>, recipe: &Recipe) -> Result<f32> {
    match (keys.positive("rope.freq_base")?, recipe.rope_base) {
        (Some(base), _) => Ok(base),
        (None, RopeBase::FamilyDefault(base)) => Ok(base),
        (None, RopeBase::Required) => keys.require_positive("rope.freq_base"),
    }
}

/// Entries of the embedding table, which must agree with the tokenizer's list.
fn n_vocab(gguf: &Gguf) -> Result<usize> {
    let name = "token_embd.weight";
    let table = gguf.require_tensor(name)?;
    let entries = table.n_rows();
    if entries > MAX_COUNT as usize {
        return Err(Error::invalid(
            name,
            format!("{entries} rows"),
            format!("at most {MAX_COUNT}"),
        ));
    }
    if let Some(tokens) = gguf.metadata().string_array("tokenizer.ggml.tokens")?
        && tokens.len() != entries
    {
        let expected = format!("{}, the entries of tokenizer.ggml.tokens", tokens.len());
        return Err(Error::invalid(name, format!("{entries} rows"), expected));
    }
    Ok(entries)
}
