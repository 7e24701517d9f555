//! The numbers of a model, read from metadata and checked once.

mod altup;

use realm_gguf::{Gguf, Metadata, U32OrArray, Value};

use crate::error::{Error, Result};
use realm_ir::{Gating, NormKind};

use crate::recipe::{
    AttentionScale, Block, EmbedScale, Experts, Layers, LogitScale, Positions, Recipe, Recurrent,
    ResidualScale, RopeBase, RopeLayers, Window,
};

pub use self::altup::AltUpHyperparameters;

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
    /// Attention, with its index among the layers that store keys and values.
    Attention(usize),
    /// Attention to what an earlier layer stores, with that layer's index.
    SharedAttention(usize),
    /// A short convolution, with its index among the recurrent steps.
    ShortConv(usize),
    /// A convolution and a gated delta rule, with the first of their two indices.
    DeltaNet(usize),
}

/// Widths of a gated delta rule.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNetHyperparameters {
    /// Query and key heads.
    pub n_key_heads: usize,
    /// Value heads.
    pub n_value_heads: usize,
    /// Values per key head.
    pub key_width: usize,
    /// Values per value head.
    pub value_width: usize,
}

impl DeltaNetHyperparameters {
    /// Width of queries, keys and values together.
    pub fn qkv_width(&self) -> usize {
        2 * self.n_key_heads * self.key_width + self.n_value_heads * self.value_width
    }
}

/// Numbers that can differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerHyperparameters {
    /// What mixes positions.
    pub mixer: Mixer,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Values per query and key head.
    pub key_length: usize,
    /// Values per value head.
    pub value_length: usize,
    /// Width of the feed-forward part.
    pub feed_forward_length: usize,
    /// Positions the layer sees; none sees all.
    pub window: Option<u32>,
    /// Whether queries and keys rotate.
    pub rotates: bool,
    /// Whether the feed-forward part is a mixture of experts.
    pub has_experts: bool,
    /// Standard deviations above their mean from which gates stay; none keeps all.
    pub gate_sparsity: Option<f32>,
}

/// Numbers of a mixture of experts.
#[derive(Clone, Copy, Debug)]
pub struct ExpertHyperparameters {
    /// Experts there are.
    pub n_experts: usize,
    /// Experts a row uses.
    pub n_used: usize,
    /// Width of one expert.
    pub feed_forward_length: usize,
    /// Width of the shared expert; 0 for none.
    pub shared_feed_forward_length: usize,
    /// From logits to weights.
    pub gating: Gating,
    /// Divide the chosen weights by their sum.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// Groups of experts.
    pub n_groups: usize,
    /// Groups that can be chosen from.
    pub n_groups_used: usize,
}

/// Widths of latent attention (`MLA`).
#[derive(Clone, Copy, Debug)]
pub struct LatentHyperparameters {
    /// Width of the queries' latent; none computes them in one step.
    pub q_rank: Option<usize>,
    /// Width of the latent of keys and values.
    pub kv_rank: usize,
    /// Values of a head that rotate, behind the others.
    pub rotating: usize,
    /// Values of a query head, those that rotate included.
    pub key_length: usize,
    /// Values of a head's result.
    pub value_length: usize,
}

/// Largest width, head count or vocabulary taken seriously. Products of two of
/// them fit a 64-bit integer; tensors of such size do not exist.
const MAX_COUNT: u32 = 1 << 24;

/// Most experts taken seriously.
const MAX_EXPERTS: usize = 1 << 16;

/// Reads keys below `<architecture>.`.
pub(crate) struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'a str,
}

impl Keys<'_> {
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A count from 1 on, `default` where the key is absent, an error where both are.
    fn count(&self, name: &str, default: Option<usize>) -> Result<usize> {
        let key = self.key(name);
        match (self.metadata.u32(&key)?, default) {
            (Some(value @ 1..=MAX_COUNT), _) => Ok(value as usize),
            (Some(value), _) => Err(Error::invalid(key, value, format!("1 to {MAX_COUNT}"))),
            (None, Some(default)) => Ok(default),
            (None, None) => Ok(self.metadata.require_u32(&key)? as usize),
        }
    }

    /// A positive finite number, where the key is there.
    pub fn positive(&self, name: &str) -> Result<Option<f32>> {
        let key = self.key(name);
        match self.metadata.f32(&key)? {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(Error::invalid(key, value, "a positive finite number"))
            }
            value => Ok(value),
        }
    }

    fn require_positive(&self, name: &str) -> Result<f32> {
        match self.positive(name)? {
            Some(value) => Ok(value),
            None => Ok(self.metadata.require_f32(&self.key(name))?),
        }
    }

    /// A cap: absent or zero means none.
    fn cap(&self, name: &str) -> Result<Option<f32>> {
        match self.metadata.f32(&self.key(name))? {
            Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }

    /// One number per layer, each `1..=MAX_COUNT`.
    fn per_layer(
        &self,
        name: &str,
        n_layers: usize,
        default: Option<&[usize]>,
    ) -> Result<Vec<usize>> {
        self.per_layer_from(name, n_layers, default, 1)
    }

    /// One number per layer, each `least..=MAX_COUNT`.
    fn per_layer_from(
        &self,
        name: &str,
        n_layers: usize,
        default: Option<&[usize]>,
        least: u32,
    ) -> Result<Vec<usize>> {
        let key = self.key(name);
        let values = match (self.metadata.u32_or_array(&key)?, default) {
            (Some(values), _) => values,
            (None, Some(default)) => return Ok(default.to_vec()),
            (None, None) => self.metadata.require_u32_or_array(&key)?,
        };
        if let U32OrArray::Array(array) = &values
            && array.len() != n_layers
        {
            let found = format!("{} values", array.len());
            return Err(Error::invalid(key, found, format!("{n_layers}, one per layer")));
        }
        (0..n_layers)
            .map(|layer| match values.get(layer) {
                Some(value) if (least..=MAX_COUNT).contains(&value) => Ok(value as usize),
                value => {
                    let found = format!("{} for layer {layer}", value.unwrap_or(0));
                    Err(Error::invalid(&key, found, format!("{least} to {MAX_COUNT}")))
                }
            })
            .collect()
    }
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
        let (window_key_length, window_value_length) = match latent {
            Some(_) => (key_length, value_length),
            None => (
                keys.count("attention.key_length_swa", Some(key_length))?,
                keys.count("attention.value_length_swa", Some(value_length))?,
            ),
        };
        let n_sharing = n_sharing(&keys, recipe, n_layers)?;
        let gate_sparsity = altup::gate_sparsity(&keys, recipe, n_layers)?;
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
        let mut layers: Vec<LayerHyperparameters> = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let (n_heads, n_kv_heads) = (heads[layer], kv_heads[layer]);
            let mixer = match (is_recurrent[layer], delta_net) {
                (false, _) if layer >= n_layers - n_sharing => {
                    shared_attention(&keys, &layers, n_kv_heads, windows[layer])?
                }
                (false, _) => Mixer::Attention(n_attending),
                (true, None) => Mixer::ShortConv(state_widths.len()),
                (true, Some(_)) => Mixer::DeltaNet(state_widths.len()),
            };
            match mixer {
                Mixer::Attention(_) => n_attending += 1,
                Mixer::SharedAttention(_) => {}
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
                key_length: if windows[layer].is_some() { window_key_length } else { key_length },
                value_length: match windows[layer] {
                    Some(_) => window_value_length,
                    None => value_length,
                },
                feed_forward_length: feed_forward[layer],
                window: windows[layer],
                rotates: rotates && can_rotate,
                has_experts: experts.is_some()
                    && layer >= n_dense as usize
                    && (layer + 1).is_multiple_of(expert_step),
                gate_sparsity: gate_sparsity[layer],
            });
        }
        let rope_dimension_count = rope_dimensions(&keys, "", key_length, key_length)?;
        Ok(Hyperparameters {
            conv_taps,
            delta_net,
            state_widths,
            per_layer_input_length: per_layer_input_length(&keys)?,
            altup: AltUpHyperparameters::read(gguf, &keys, recipe)?,
            rope_dimension_count,
            window_rope_dimension_count: rope_dimensions(
                &keys,
                "_swa",
                window_key_length,
                rope_dimension_count,
            )?,
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
                (None, None) => attention_scale(recipe, &layers, embedding_length),
            },
            attention_softcap: keys.cap("attn_logit_softcapping")?,
            // Where a family fixes the slopes, converters leave the key out: they are
            // then those of the method's definition (arXiv 2108.12409).
            alibi_max_bias: match has_alibi {
                true => Some(keys.positive("attention.max_alibi_bias")?.unwrap_or(8.0)),
                false => None,
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

/// Queries, keys and values held to a range (`attention.clamp_kqv`) are a step there is not.
fn refuse_clamped_attention(keys: &Keys<'_>) -> Result<()> {
    match keys.cap("attention.clamp_kqv")? {
        Some(bound) => {
            Err(Error::unsupported(keys.key("attention.clamp_kqv"), bound, "files without it"))
        }
        None => Ok(()),
    }
}

/// Numbers of the experts, for files that have some.
fn experts(
    keys: &Keys<'_>,
    recipe: &Recipe,
    feed_forward_length: usize,
) -> Result<Option<ExpertHyperparameters>> {
    let key = keys.key("expert_count");
    let n_experts = match keys.metadata.u32(&key)? {
        None | Some(0) => return Ok(None),
        Some(n) => n as usize,
    };
    let Some(Experts { gating, normalize }) = recipe.experts else {
        return Err(Error::unsupported(key, n_experts, "dense models of this family"));
    };
    // The router has a row for each, so the count is also checked against a tensor.
    if n_experts > MAX_EXPERTS {
        return Err(Error::invalid(key, n_experts, format!("1 to {MAX_EXPERTS}")));
    }
    let part = |name: &str, whole: usize, default: Option<usize>| {
        let value = keys.count(name, default)?;
        if value <= whole {
            return Ok(value);
        }
        Err(Error::invalid(keys.key(name), value, format!("1 to {whole}")))
    };
    let n_used = part("expert_used_count", n_experts, None)?;
    let n_groups = part("expert_group_count", n_experts, Some(1))?;
    if !n_experts.is_multiple_of(n_groups) {
        let expected = format!("a divisor of {n_experts}, the number of experts");
        return Err(Error::invalid(keys.key("expert_group_count"), n_groups, expected));
    }
    let n_groups_used = part("expert_group_used_count", n_groups, Some(n_groups))?;
    if n_used > n_experts / n_groups * n_groups_used {
        let expected = format!("at most the experts of {n_groups_used} of {n_groups} groups");
        return Err(Error::invalid(keys.key("expert_used_count"), n_used, expected));
    }
    let inner = keys.count("expert_feed_forward_length", Some(feed_forward_length))?;
    let shared_count = keys.metadata.u32(&keys.key("expert_shared_count"))?.unwrap_or(0);
    let shared_key = keys.key("expert_shared_feed_forward_length");
    let shared = match keys.metadata.u32(&shared_key)? {
        Some(width) => width as usize,
        None => inner.saturating_mul(shared_count as usize),
    };
    let gating_key = keys.key("expert_gating_func");
    let gating = match keys.metadata.u32(&gating_key)? {
        None | Some(0) => gating,
        Some(1) => Gating::Softmax,
        Some(2) => Gating::Sigmoid,
        Some(3) => Gating::SoftmaxOfChosen,
        Some(other) => {
            let supported = "1 (softmax), 2 (sigmoid), 3 (softmax of the chosen)";
            return Err(Error::unsupported(gating_key, other, supported));
        }
    };
    Ok(Some(ExpertHyperparameters {
        n_experts,
        n_used,
        feed_forward_length: inner,
        shared_feed_forward_length: shared,
        gating,
        normalize: keys.metadata.bool(&keys.key("expert_weights_norm"))?.unwrap_or(normalize),
        scale: keys.cap("expert_weights_scale")?.unwrap_or(1.0),
        n_groups,
        n_groups_used,
    }))
}

/// Widths of latent attention. The file's `key_length` is that of the cache, the
/// latent and the values that rotate; in files without `key_length_mla` it is that of
/// a head.
fn latent(
    keys: &Keys<'_>,
    recipe: &Recipe,
    key_length: usize,
    value_length: usize,
) -> Result<Option<LatentHyperparameters>> {
    if !recipe.latent {
        return Ok(None);
    }
    let kv_rank = keys.count("attention.kv_lora_rank", None)?;
    let rotating = keys.count("rope.dimension_count", None)?;
    let has_own_lengths = keys.metadata.u32(&keys.key("attention.key_length_mla"))?.is_some();
    let own_key_length = keys.count("attention.key_length_mla", Some(key_length))?;
    let own_value_length = match has_own_lengths {
        true => keys.count("attention.value_length_mla", None)?,
        false => value_length,
    };
    let is_cached = kv_rank == value_length && kv_rank + rotating == key_length;
    if has_own_lengths && !is_cached {
        let expected = format!(
            "{value_length}, the width of the cached value, and {rotating} less than its key"
        );
        return Err(Error::invalid(keys.key("attention.kv_lora_rank"), kv_rank, expected));
    }
    if own_key_length <= rotating {
        let expected = format!("more than {rotating}, the values that rotate");
        return Err(Error::invalid(keys.key("attention.key_length_mla"), own_key_length, expected));
    }
    let q_rank_key = keys.key("attention.q_lora_rank");
    let q_rank = keys.metadata.u32(&q_rank_key)?.filter(|rank| *rank > 0);
    Ok(Some(LatentHyperparameters {
        q_rank: q_rank.map(|_| keys.count("attention.q_lora_rank", None)).transpose()?,
        kv_rank,
        rotating,
        key_length: own_key_length,
        value_length: own_value_length,
    }))
}

/// Largest convolution taken seriously.
const MAX_TAPS: usize = 64;

/// Taps of the convolutions; 1 where there are none.
fn conv_taps(keys: &Keys<'_>, recipe: &Recipe) -> Result<usize> {
    let name = match recipe.recurrent {
        Recurrent::None => return Ok(1),
        Recurrent::ShortConv => "shortconv.l_cache",
        Recurrent::DeltaNet => "ssm.conv_kernel",
    };
    match keys.count(name, None)? {
        taps @ 2..=MAX_TAPS => Ok(taps),
        taps => Err(Error::invalid(keys.key(name), taps, format!("2 to {MAX_TAPS}"))),
    }
}

fn delta_net(keys: &Keys<'_>, recipe: &Recipe) -> Result<Option<DeltaNetHyperparameters>> {
    if recipe.recurrent != Recurrent::DeltaNet {
        return Ok(None);
    }
    let n_key_heads = keys.count("ssm.group_count", None)?;
    let n_value_heads = keys.count("ssm.time_step_rank", None)?;
    let inner = keys.count("ssm.inner_size", None)?;
    if !n_value_heads.is_multiple_of(n_key_heads) || !inner.is_multiple_of(n_value_heads) {
        let found = format!("{n_value_heads} heads for {inner} values");
        let expected = format!("a multiple of {n_key_heads}, and a divisor of the values");
        return Err(Error::invalid(keys.key("ssm.time_step_rank"), found, expected));
    }
    Ok(Some(DeltaNetHyperparameters {
        n_key_heads,
        n_value_heads,
        key_width: keys.count("ssm.state_size", None)?,
        value_width: inner / n_value_heads,
    }))
}

/// Which layers are recurrent.
fn recurrent_layers(keys: &Keys<'_>, recipe: &Recipe, kv_heads: &[usize]) -> Result<Vec<bool>> {
    let n_layers = kv_heads.len();
    match recipe.recurrent {
        Recurrent::None => Ok(vec![false; n_layers]),
        Recurrent::ShortConv => Ok(kv_heads.iter().map(|n| *n == 0).collect()),
        Recurrent::DeltaNet => {
            let key = keys.key("attention.recurrent_layers");
            match keys.metadata.bool_array(&key)? {
                Some(layers) if layers.len() == n_layers => Ok(layers),
                Some(layers) => {
                    let found = format!("{} values", layers.len());
                    Err(Error::invalid(key, found, format!("{n_layers}, one per layer")))
                }
                None => {
                    let interval = keys.count("full_attention_interval", None)?;
                    Ok((1..=n_layers).map(|layer| !layer.is_multiple_of(interval)).collect())
                }
            }
        }
    }
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

/// A head's width: given, or the embedding divided among the heads, as the GGUF
/// specification says.
fn head_width(
    keys: &Keys<'_>,
    name: &str,
    embedding_length: usize,
    n_heads: usize,
) -> Result<usize> {
    let key = keys.key(name);
    if keys.metadata.u32(&key)?.is_none() && !embedding_length.is_multiple_of(n_heads) {
        let found =
            format!("nothing, and {embedding_length} values do not divide among {n_heads} heads");
        return Err(Error::invalid(key, found, "the width of a head"));
    }
    keys.count(name, Some(embedding_length / n_heads))
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

/// Layers at the end that read the keys and values of earlier ones. Files of Gemma 3n hold
/// keys and values of such layers too, so theirs must say how many there are.
fn n_sharing(keys: &Keys<'_>, recipe: &Recipe, n_layers: usize) -> Result<usize> {
    let key = keys.key("attention.shared_kv_layers");
    if recipe.altup {
        keys.metadata.require_u32(&key)?;
    }
    let n = keys.metadata.u32(&key)?.unwrap_or(0) as usize;
    if n >= n_layers {
        return Err(Error::invalid(key, n, format!("fewer than the {n_layers} layers")));
    }
    Ok(n)
}

/// What a layer with `window` shares: the keys and values of the last layer of its
/// kind, with or without a window, that stores some.
fn shared_attention(
    keys: &Keys<'_>,
    layers: &[LayerHyperparameters],
    n_kv_heads: usize,
    window: Option<u32>,
) -> Result<Mixer> {
    let source = layers.iter().rev().find_map(|layer| match layer.mixer {
        Mixer::Attention(kv_layer) if layer.window == window => Some((kv_layer, layer.n_kv_heads)),
        _ => None,
    });
    match source {
        Some((kv_layer, heads)) if heads == n_kv_heads => Ok(Mixer::SharedAttention(kv_layer)),
        _ => {
            let found =
                format!("no layer of {n_kv_heads} key and value heads for layer {}", layers.len());
            let expected = "an earlier one of the same kind to share with";
            Err(Error::invalid(keys.key("attention.shared_kv_layers"), found, expected))
        }
    }
}

fn per_layer_input_length(keys: &Keys<'_>) -> Result<Option<usize>> {
    let name = "embedding_length_per_layer_input";
    match keys.metadata.u32(&keys.key(name))? {
        None | Some(0) => Ok(None),
        Some(_) => keys.count(name, None).map(Some),
    }
}

fn rope_base(keys: &Keys<'_>, recipe: &Recipe) -> Result<f32> {
    match (keys.positive("rope.freq_base")?, recipe.rope_base) {
        (Some(base), _) => Ok(base),
        (None, RopeBase::FamilyDefault(base)) => Ok(base),
        (None, RopeBase::Required) => keys.require_positive("rope.freq_base"),
    }
}

fn attention_scale(
    recipe: &Recipe,
    layers: &[LayerHyperparameters],
    embedding_length: usize,
) -> f32 {
    let key_length = layers[0].key_length;
    let width = match recipe.attention_scale {
        AttentionScale::KeyWidthUnlessLayers(n) if n == layers.len() => {
            embedding_length as f32 / layers[0].n_heads as f32
        }
        AttentionScale::InverseKeyWidth => return 1.0 / key_length as f32,
        AttentionScale::Always(scale) => return scale,
        _ => key_length as f32,
    };
    1.0 / width.sqrt()
}

/// Scores of latent attention are scaled by the width of a whole query head, and
/// by the square of YaRN's factor, which its rotation then leaves out
/// (`rope.scaling.yarn_log_multiplier` is a tenth of the original `mscale_all_dim`).
fn latent_scale(keys: &Keys<'_>, latent: &LatentHyperparameters) -> Result<f32> {
    let width = latent.key_length as f32;
    let multiplier = keys.positive("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    let factor = keys.positive("rope.scaling.factor")?.unwrap_or(1.0);
    let magnitude = 1.0 + multiplier * factor.ln();
    Ok(magnitude * magnitude / width.sqrt())
}

/// The window of each layer. `attention.sliding_window_pattern`, where a file
/// has it, says per layer whether it has one, or the size of groups whose last has none.
fn windows(
    keys: &Keys<'_>,
    recipe: &Recipe,
    n_layers: usize,
    context_length: usize,
) -> Result<Vec<Option<u32>>> {
    let key = keys.key("attention.sliding_window");
    let given = keys.metadata.u32(&key)?.filter(|window| *window > 0);
    let (window, layers) = match (recipe.window, given) {
        (Window::Never, Some(window)) if (window as usize) < context_length => {
            return Err(Error::unsupported(key, window, "none in this family"));
        }
        (Window::Never, _) | (Window::If(_), None) => return Ok(vec![None; n_layers]),
        (Window::Always(_) | Window::ByKey, None) => {
            return Err(Error::invalid(key, "no window", "the positions a layer sees"));
        }
        (Window::If(layers) | Window::Always(layers), Some(window)) => (window, Some(layers)),
        (Window::ByKey, Some(window)) => (window, None),
    };
    let pattern_key = keys.key("attention.sliding_window_pattern");
    let (pattern, layers) = match keys.metadata.get(&pattern_key) {
        Some(Value::Array(_)) => (keys.metadata.bool_array(&pattern_key)?, Layers::All),
        Some(_) => match keys.metadata.require_u32(&pattern_key)? as usize {
            0 => (None, Layers::All),
            group => (None, Layers::AllButLastOf(group)),
        },
        None => match layers {
            Some(layers) => (None, layers),
            None => return Err(Error::invalid(pattern_key, "nothing", "the layers with a window")),
        },
    };
    if let Some(pattern) = &pattern
        && pattern.len() != n_layers
    {
        let found = format!("{} values", pattern.len());
        return Err(Error::invalid(pattern_key, found, format!("{n_layers}, one per layer")));
    }
    let has_window = |layer: usize| match &pattern {
        Some(pattern) => pattern[layer],
        None => layers.contains(layer),
    };
    Ok((0..n_layers).map(|layer| has_window(layer).then_some(window)).collect())
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
