//! The numbers of a model, read from metadata and checked once.

mod altup;
mod attention;
mod experts;
mod keys;
mod layers;
mod recurrent;

use realm_gguf::Gguf;
use realm_ir::{NormKind, Temperature};

use crate::error::{Error, Result};
use crate::recipe::{
    Block, EmbedScale, LogitScale, Positions, Recipe, ResidualScale, RopeBase, RopeLayers,
};

pub use altup::AltUpHyperparameters;
pub use attention::LatentHyperparameters;
pub use experts::ExpertHyperparameters;
pub use layers::{LayerHyperparameters, Mixer};
pub use recurrent::{DeltaNetHyperparameters, ScanHyperparameters};

pub(crate) use keys::Keys;

use attention::{
    attention_scale, head_width, latent, latent_scale, n_sharing, query_temperature,
    shared_attention, windows,
};
use experts::experts;
use keys::MAX_COUNT;
use layers::{LayerParts, activations};
use recurrent::{Mixers, conv_taps, delta_net, recurrent_layers, scan};

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
    /// Widths of latent attention.
    pub latent: Option<LatentHyperparameters>,
    /// Width of the inputs that each layer has of its own; none for most families.
    pub per_layer_input_length: Option<usize>,
    /// Streams beside the hidden state; none for most families.
    pub altup: Option<AltUpHyperparameters>,
    /// Taps of the convolutions in recurrent layers.
    pub conv_taps: usize,
    /// Widths of the gated delta rule.
    pub delta_net: Option<DeltaNetHyperparameters>,
    /// Widths of a selective scan.
    pub scan: Option<ScanHyperparameters>,
    /// Bound of queries, keys and values.
    pub qkv_clamp: Option<f32>,
    /// Factor on attention's result.
    pub attention_output_scale: f32,
    /// Factor on queries that grows with their position.
    pub query_temperature: Option<Temperature>,
    /// Values of each recurrent step's state.
    pub state_widths: Vec<usize>,
    /// Values of a head that rotate; even, at most a head's width.
    pub rope_dimension_count: usize,
    /// The same in layers with a window.
    pub window_rope_dimension_count: usize,
    /// Base of the rotation's frequencies.
    pub rope_base: f32,
    /// Epsilon of the norms.
    pub epsilon: f32,
    /// Whether a position sees only those before it; decoders that were trained on to
    /// embed say that it does not (`attention.causal`).
    pub is_causal: bool,
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

impl Hyperparameters {
    /// Reads and checks the numbers that `recipe` needs.
    ///
    /// # Errors
    /// A missing key, a value of the wrong type or out of range, or two that
    /// contradict each other; named with what was found and expected.
    pub fn read(gguf: &Gguf, recipe: &Recipe) -> Result<Self> {
        let keys = Keys::new(gguf, recipe.name);
        let embedding_length = keys.count("embedding_length", None)?;
        let context_length = keys.count("context_length", None)?;
        let n_blocks = keys.count("block_count", None)?;
        if n_blocks > gguf.tensors().len() {
            let expected =
                format!("at most one per tensor, and there are {}", gguf.tensors().len());
            return Err(Error::invalid(keys.key("block_count"), n_blocks, expected));
        }
        let n_layers = keys.n_layers()?;
        let mut parts = LayerParts::read(&keys, recipe, n_blocks)?;
        // Layers without attention say nothing about the width of a head.
        let first_heads = parts.heads.iter().copied().find(|n| *n > 0).unwrap_or(1);
        let mut key_length =
            head_width(&keys, "attention.key_length", embedding_length, first_heads)?;
        let mut value_length =
            head_width(&keys, "attention.value_length", embedding_length, first_heads)?;
        let latent = latent(&keys, recipe, key_length, value_length)?;
        if let Some(latent) = &latent {
            // One key serves all heads: the latent, then the values that rotate.
            parts.kv_heads.fill(1);
            (key_length, value_length) = (latent.kv_rank + latent.rotating, latent.kv_rank);
        }
        let windows = windows(&keys, recipe, n_blocks, context_length)?;
        let (window_key_length, window_value_length) = match latent {
            Some(_) => (key_length, value_length),
            None => (
                keys.head("attention.key_length_swa", Some(key_length))?,
                keys.head("attention.value_length_swa", Some(value_length))?,
            ),
        };
        let n_sharing = n_sharing(&keys, recipe, n_layers)?;
        let gate_sparsity = altup::gate_sparsity(&keys, recipe, n_layers)?;
        let experts = experts(&keys, recipe, parts.feed_forward[0])?;
        let conv_taps = conv_taps(&keys, recipe)?;
        let delta_net = delta_net(&keys, recipe)?;
        let scan = scan(&keys, recipe)?;
        let activations = activations(gguf, recipe, n_blocks)?;

        let mut mixers = Mixers::new(recipe, conv_taps, embedding_length, delta_net, scan);
        let is_recurrent = recurrent_layers(&keys, recipe, &parts.kv_heads)?;
        let mut layers: Vec<LayerHyperparameters> = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let (n_heads, n_kv_heads) = (parts.heads[layer], parts.kv_heads[layer]);
            let feed_forward_length = parts.feed_forward[layer];
            let mixer = match recipe.block {
                Block::OnePart if feed_forward_length > 0 => Mixer::None,
                _ if !is_recurrent[layer] && layer >= n_layers - n_sharing => {
                    shared_attention(&keys, &layers, n_kv_heads, windows[layer])?
                }
                _ => mixers.next(is_recurrent[layer], n_heads),
            };
            let attends = mixer.attends();
            if attends && (n_kv_heads == 0 || n_heads == 0 || !n_heads.is_multiple_of(n_kv_heads)) {
                let expected = format!("a divisor of {n_heads}, the heads of layer {layer}");
                return Err(Error::invalid(
                    keys.key("attention.head_count_kv"),
                    n_kv_heads,
                    expected,
                ));
            }
            let turns = match recipe.rope_layers {
                RopeLayers::Of(layers) => layers.contains(layer),
                RopeLayers::WithWindow => {
                    windows[layer].is_some() || windows.iter().all(Option::is_none)
                }
            };
            if gate_sparsity[layer].is_some() && feed_forward_length < 2 {
                let found = format!("{feed_forward_length} for layer {layer}");
                let expected = "2 or more: gates of one value have no deviation";
                return Err(Error::invalid(keys.key("feed_forward_length"), found, expected));
            }
            let router = format!("blk.{layer}.ffn_gate_inp.weight");
            let (key_length, value_length) = match windows[layer] {
                Some(_) => (window_key_length, window_value_length),
                None => (key_length, value_length),
            };
            for n in [n_heads, n_kv_heads] {
                keys.width("attention.key_length", n, key_length)?;
                keys.width("attention.value_length", n, value_length)?;
            }
            if let Some(latent) = &latent {
                keys.width("attention.key_length_mla", n_heads, latent.key_length)?;
                keys.width("attention.value_length_mla", n_heads, latent.value_length)?;
            }
            layers.push(LayerHyperparameters {
                mixer,
                n_heads,
                n_kv_heads: n_kv_heads.max(1),
                key_length,
                value_length,
                feed_forward_length,
                activation: activations[layer],
                window: windows[layer],
                rotates: turns && recipe.positions == Positions::Rope,
                has_experts: experts.is_some() && gguf.tensor(&router).is_some(),
                gate_sparsity: gate_sparsity[layer],
            });
        }
        let state_widths = mixers.state_widths;
        let rope_dimension_count = rope_dimensions(&keys, "", key_length, key_length)?;
        Ok(Hyperparameters {
            conv_taps,
            delta_net,
            scan,
            state_widths,
            qkv_clamp: keys.cap("attention.clamp_kqv")?,
            attention_output_scale: keys.positive("attention.value_scale")?.unwrap_or(1.0),
            query_temperature: query_temperature(&keys, recipe)?,
            per_layer_input_length: per_layer_input_length(&keys, n_layers)?,
            altup: AltUpHyperparameters::read(gguf, &keys, recipe)?,
            rope_dimension_count,
            window_rope_dimension_count: rope_dimensions(
                &keys,
                "_swa",
                window_key_length,
                rope_dimension_count,
            )?,
            rope_base: rope_base(&keys, recipe, key_length)?,
            epsilon: keys.require_positive(match recipe.norm {
                NormKind::Rms => "attention.layer_norm_rms_epsilon",
                NormKind::Layer => "attention.layer_norm_epsilon",
            })?,
            is_causal: keys
                .metadata
                .bool(&keys.key("attention.causal"))?
                .unwrap_or(!recipe.is_encoder),
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
                (None, None) => attention_scale(recipe, &layers, embedding_length),
            },
            attention_softcap: keys.cap("attn_logit_softcapping")?,
            // Where a family fixes the slopes, converters leave the key out: they are
            // then those of the method's definition (arXiv 2108.12409).
            alibi_max_bias: match recipe.positions {
                Positions::Alibi => Some(keys.positive("attention.max_alibi_bias")?.unwrap_or(8.0)),
                _ => None,
            },
            logit_softcap: match keys.metadata.get(&keys.key("final_logit_softcapping")) {
                Some(_) => keys.cap("final_logit_softcapping")?,
                None => recipe.logit_softcap,
            },
            n_vocab: n_vocab(gguf)?,
            experts,
            latent,
            embedding_length,
            context_length,
            layers,
        })
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

/// Values of a head that rotate, from the key with `suffix`.
fn rope_dimensions(
    keys: &Keys<'_>,
    suffix: &str,
    key_length: usize,
    default: usize,
) -> Result<usize> {
    let name = format!("rope.dimension_count{suffix}");
    let count = keys.count(&name, Some(default))?;
    if count > key_length || !count.is_multiple_of(2) {
        let expected = format!("an even number up to {key_length}, the width of a head");
        return Err(Error::invalid(keys.key(&name), count, expected));
    }
    Ok(count)
}

/// Width of the inputs that each layer has of its own.
fn per_layer_input_length(keys: &Keys<'_>, n_layers: usize) -> Result<Option<usize>> {
    let name = "embedding_length_per_layer_input";
    match keys.metadata.u32(&keys.key(name))? {
        None | Some(0) => Ok(None),
        Some(_) => {
            let width = keys.count(name, None)?;
            keys.width(name, n_layers, width)?;
            Ok(Some(width))
        }
    }
}

/// The base; files that stretch it as a whole give the factor (`rope.scaling.alpha`).
fn rope_base(keys: &Keys<'_>, recipe: &Recipe, key_length: usize) -> Result<f32> {
    let base = match (keys.positive("rope.freq_base")?, recipe.rope_base) {
        (Some(base), _) => base,
        (None, RopeBase::FamilyDefault(base)) => base,
        (None, RopeBase::Required) => keys.require_positive("rope.freq_base")?,
    };
    let width = key_length as f32;
    match keys.cap("rope.scaling.alpha")? {
        Some(alpha) if key_length > 2 => Ok(base * alpha.powf(width / (width - 2.0))),
        _ => Ok(base),
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
