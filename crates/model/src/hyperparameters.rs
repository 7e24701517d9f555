//! The numbers of a model, read from metadata and checked once.

use realm_gguf::{Gguf, Metadata, U32OrArray};

use crate::error::{Error, Result};
use crate::recipe::{AttentionScale, Recipe, RopeBase, Window};

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
    /// Values of a head that rotate; even, at most `key_length`.
    pub rope_dimension_count: usize,
    /// Base of the rotation's frequencies.
    pub rope_base: f32,
    /// Epsilon of the RMS norms.
    pub epsilon: f32,
    /// Factor on attention scores.
    pub attention_scale: f32,
    /// Cap on attention scores.
    pub attention_softcap: Option<f32>,
    /// Cap on logits.
    pub logit_softcap: Option<f32>,
    /// Entries of the vocabulary.
    pub n_vocab: usize,
}

/// Numbers that can differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerHyperparameters {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of the feed-forward part.
    pub feed_forward_length: usize,
    /// Positions the layer sees; none sees all.
    pub window: Option<u32>,
}

/// Largest width, head count or vocabulary taken seriously. Products of two of
/// them fit a 64-bit integer; tensors of such size do not exist.
const MAX_COUNT: u32 = 1 << 24;

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
                Some(value @ 1..=MAX_COUNT) => Ok(value as usize),
                value => {
                    let found = format!("{value:?} for layer {layer}");
                    Err(Error::invalid(&key, found, format!("1 to {MAX_COUNT}")))
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
        refuse_experts(&keys)?;
        let embedding_length = keys.count("embedding_length", None)?;
        let context_length = keys.count("context_length", None)?;
        let n_layers = keys.count("block_count", None)?;
        if n_layers > gguf.tensors().len() {
            let expected =
                format!("at most one per tensor, and there are {}", gguf.tensors().len());
            return Err(Error::invalid(keys.key("block_count"), n_layers, expected));
        }
        let heads = keys.per_layer("attention.head_count", n_layers, None)?;
        let kv_heads = keys.per_layer("attention.head_count_kv", n_layers, Some(&heads))?;
        let feed_forward = keys.per_layer("feed_forward_length", n_layers, None)?;
        let key_length = head_width(&keys, "attention.key_length", embedding_length, heads[0])?;
        let value_length = head_width(&keys, "attention.value_length", embedding_length, heads[0])?;
        let windows = windows(&keys, recipe, n_layers, context_length)?;

        let mut layers = Vec::with_capacity(n_layers);
        for layer in 0..n_layers {
            let (n_heads, n_kv_heads) = (heads[layer], kv_heads[layer]);
            if n_heads % n_kv_heads != 0 {
                let expected = format!("a divisor of {n_heads}, the heads of layer {layer}");
                return Err(Error::invalid(
                    keys.key("attention.head_count_kv"),
                    n_kv_heads,
                    expected,
                ));
            }
            layers.push(LayerHyperparameters {
                n_heads,
                n_kv_heads,
                feed_forward_length: feed_forward[layer],
                window: windows[layer],
            });
        }
        Ok(Hyperparameters {
            rope_dimension_count: rope_dimension_count(&keys, key_length)?,
            rope_base: rope_base(&keys, recipe)?,
            epsilon: keys.require_positive("attention.layer_norm_rms_epsilon")?,
            attention_scale: attention_scale(&keys, recipe, &layers, embedding_length, key_length)?,
            attention_softcap: keys.cap("attn_logit_softcapping")?,
            logit_softcap: keys.cap("final_logit_softcapping")?,
            n_vocab: n_vocab(gguf)?,
            embedding_length,
            context_length,
            layers,
            key_length,
            value_length,
        })
    }
}

/// Mixtures of experts need a step that is not there yet.
fn refuse_experts(keys: &Keys<'_>) -> Result<()> {
    match keys.metadata.u32(&keys.key("expert_count"))? {
        None | Some(0) => Ok(()),
        Some(n) => {
            Err(Error::unsupported(keys.key("expert_count"), n, "dense models (0 or absent)"))
        }
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

fn attention_scale(
    keys: &Keys<'_>,
    recipe: &Recipe,
    layers: &[LayerHyperparameters],
    embedding_length: usize,
    key_length: usize,
) -> Result<f32> {
    if let Some(scale) = keys.positive("attention.scale")? {
        return Ok(scale);
    }
    let width = match recipe.attention_scale {
        AttentionScale::KeyWidthUnlessLayers(n) if n == layers.len() => {
            embedding_length as f32 / layers[0].n_heads as f32
        }
        _ => key_length as f32,
    };
    Ok(1.0 / width.sqrt())
}

/// The window of each layer. `attention.sliding_window_pattern`, where a file
/// has it, says per layer whether it has one.
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
        (Window::Always(_), None) => {
            return Err(Error::invalid(key, "no window", "the positions a layer sees"));
        }
        (Window::If(layers) | Window::Always(layers), Some(window)) => (window, layers),
    };
    let pattern_key = keys.key("attention.sliding_window_pattern");
    let pattern = match keys.metadata.get(&pattern_key) {
        Some(_) => keys.metadata.bool_array(&pattern_key)?,
        None => None,
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
