//! Numbers of streams beside the hidden state, and of what comes with them.

use realm_gguf::Gguf;

use super::{Keys, MAX_COUNT};
use crate::error::{Error, Result};
use crate::recipe::Recipe;

/// Numbers of AltUp and of the low-rank part beside attention.
#[derive(Clone, Copy, Debug)]
pub struct AltUpHyperparameters {
    /// Streams, from 2 on: the hidden state and those beside it.
    pub n_streams: usize,
    /// Rank of the part beside attention.
    pub laurel_rank: usize,
}

/// Most streams taken seriously: each costs as much memory as the hidden state.
const MAX_STREAMS: usize = 16;

impl AltUpHyperparameters {
    /// The numbers, for families that have streams.
    pub(super) fn read(gguf: &Gguf, keys: &Keys<'_>, recipe: &Recipe) -> Result<Option<Self>> {
        if !recipe.altup {
            return Ok(None);
        }
        let n_streams = keys.count("altup.num_inputs", None)?;
        if !(2..=MAX_STREAMS).contains(&n_streams) {
            let expected = format!("2 to {MAX_STREAMS}");
            return Err(Error::invalid(keys.key("altup.num_inputs"), n_streams, expected));
        }
        let active_key = keys.key("altup.active_idx");
        let active = keys.metadata.require_u32(&active_key)?;
        if active != 0 {
            return Err(Error::unsupported(active_key, active, "0, the first stream"));
        }
        // No key gives the rank.
        let name = "blk.0.laurel_l.weight";
        let laurel_rank = gguf.require_tensor(name)?.n_rows();
        if !(1..=MAX_COUNT as usize).contains(&laurel_rank) {
            let found = format!("{laurel_rank} rows");
            return Err(Error::invalid(name, found, format!("1 to {MAX_COUNT}")));
        }
        Ok(Some(AltUpHyperparameters { n_streams, laurel_rank }))
    }
}

/// The sparsity of each layer's gates. Minus infinity, the deviations that all values
/// exceed, stands for none.
pub(super) fn gate_sparsity(
    keys: &Keys<'_>,
    recipe: &Recipe,
    n_layers: usize,
) -> Result<Vec<Option<f32>>> {
    if !recipe.altup {
        return Ok(vec![None; n_layers]);
    }
    let key = keys.key("activation_sparsity_scale");
    let scales = keys.metadata.require_f32_array(&key)?;
    if scales.len() != n_layers {
        let found = format!("{} values", scales.len());
        return Err(Error::invalid(key, found, format!("{n_layers}, one per layer")));
    }
    let scale = |scale: f32| match scale {
        f32::NEG_INFINITY => Ok(None),
        scale if scale.is_finite() => Ok(Some(scale)),
        scale => Err(Error::invalid(&key, scale, "finite numbers or minus infinity")),
    };
    scales.into_iter().map(scale).collect()
}
