//! Numbers of the steps that stand in for attention.

use super::Keys;
use crate::error::{Error, Result};
use crate::recipe::{Recipe, Recurrent};

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

/// Largest convolution taken seriously.
const MAX_TAPS: usize = 64;

/// Taps of the convolutions; 1 where there are none.
pub(super) fn conv_taps(keys: &Keys<'_>, recipe: &Recipe) -> Result<usize> {
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

pub(super) fn delta_net(
    keys: &Keys<'_>,
    recipe: &Recipe,
) -> Result<Option<DeltaNetHyperparameters>> {
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
pub(super) fn recurrent_layers(
    keys: &Keys<'_>,
    recipe: &Recipe,
    kv_heads: &[usize],
) -> Result<Vec<bool>> {
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
