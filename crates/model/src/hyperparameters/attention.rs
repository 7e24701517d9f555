//! Numbers of attention: widths of heads, windows, the scale of scores.

use realm_gguf::Value;
use realm_ir::Temperature;

use super::{Keys, LayerHyperparameters, Mixer};
use crate::error::{Error, Result};
use crate::recipe::{AttentionScale, Layers, QueryTemperature, Recipe, Window};

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

/// A head's width: given, or the embedding divided among the heads, as the GGUF
/// specification says.
pub(super) fn head_width(
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
    keys.head(name, Some(embedding_length / n_heads))
}

/// The factor on queries that grows with their position.
pub(super) fn query_temperature(keys: &Keys<'_>, recipe: &Recipe) -> Result<Option<Temperature>> {
    match recipe.query_temperature {
        QueryTemperature::Unrotated(temperature) => Ok(Some(temperature)),
        QueryTemperature::Key => {
            let Some(scale) = keys.cap("attention.temperature_scale")? else { return Ok(None) };
            let length = match keys.metadata.u32(&keys.key("attention.temperature_length"))? {
                Some(_) => keys.count("attention.temperature_length", None)?,
                None => keys.count("rope.scaling.original_context_length", None)?,
            };
            let length = length as u32;
            Ok(Some(Temperature { scale, length, offset: 0 }))
        }
    }
}

/// Widths of latent attention. The file's `key_length` is that of the cache, the
/// latent and the values that rotate; in files without `key_length_mla` it is that of
/// a head.
pub(super) fn latent(
    keys: &Keys<'_>,
    recipe: &Recipe,
    key_length: usize,
    value_length: usize,
) -> Result<Option<LatentHyperparameters>> {
    if !recipe.latent {
        return Ok(None);
    }
    let kv_rank = keys.head("attention.kv_lora_rank", None)?;
    let rotating = keys.head("rope.dimension_count", None)?;
    let has_own_lengths = keys.metadata.u32(&keys.key("attention.key_length_mla"))?.is_some();
    let own_key_length = keys.head("attention.key_length_mla", Some(key_length))?;
    let own_value_length = match has_own_lengths {
        true => keys.head("attention.value_length_mla", None)?,
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

/// Scores of latent attention are scaled by the width of a whole query head, and
/// by the square of YaRN's factor, which its rotation then leaves out
/// (`rope.scaling.yarn_log_multiplier` is a tenth of the original `mscale_all_dim`).
pub(super) fn latent_scale(keys: &Keys<'_>, latent: &LatentHyperparameters) -> Result<f32> {
    let width = latent.key_length as f32;
    let multiplier = keys.positive("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    let factor = keys.positive("rope.scaling.factor")?.unwrap_or(1.0);
    let magnitude = 1.0 + multiplier * factor.ln();
    Ok(magnitude * magnitude / width.sqrt())
}

pub(super) fn attention_scale(
    recipe: &Recipe,
    layers: &[LayerHyperparameters],
    embedding_length: usize,
) -> f32 {
    let key_length = layers[0].key_length;
    let width = match recipe.attention_scale {
        AttentionScale::KeyWidth => key_length as f32,
        AttentionScale::EmbeddingShare => embedding_length as f32 / layers[0].n_heads as f32,
        AttentionScale::InverseKeyWidth => return 1.0 / key_length as f32,
        AttentionScale::Always(scale) => return scale,
    };
    1.0 / width.sqrt()
}

/// Layers at the end that read the keys and values of earlier ones. Files of Gemma 3n hold
/// keys and values of such layers too, so theirs must say how many there are.
pub(super) fn n_sharing(keys: &Keys<'_>, recipe: &Recipe, n_layers: usize) -> Result<usize> {
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
pub(super) fn shared_attention(
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

/// The window of each layer. `attention.sliding_window_pattern`, where a file
/// has it, says per layer whether it has one, or the size of groups whose last has none.
pub(super) fn windows(
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
        (Window::Default(window, layers), None) if keys.metadata.u32(&key)?.is_none() => {
            (window, Some(layers))
        }
        (Window::Default(..), None) => return Ok(vec![None; n_layers]),
        (Window::Always(_) | Window::ByKey, None) => {
            return Err(Error::invalid(key, "no window", "the positions a layer sees"));
        }
        (
            Window::If(layers) | Window::Always(layers) | Window::Default(_, layers),
            Some(window),
        ) => (window, Some(layers)),
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
