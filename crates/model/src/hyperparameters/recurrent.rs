//! Numbers of the steps that stand in for attention.

use super::{Keys, Mixer};
use crate::error::{Error, Result};
use crate::recipe::{Recipe, Recurrent};

/// Widths of a gated delta rule.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNetHyperparameters {
    /// Query and key heads.
    pub n_key_heads: usize,
    /// Value heads.
    pub n_value_heads: usize,
    /// The value heads of a key head are neighbours.
    pub grouped: bool,
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

/// Widths of a selective scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanHyperparameters {
    /// Heads; in Mamba each value is one.
    pub n_heads: usize,
    /// Values per head.
    pub head_width: usize,
    /// Values that each of them keeps.
    pub state_width: usize,
    /// Groups of heads that are written and read alike.
    pub n_groups: usize,
    /// Width of the latent that Mamba's time steps come from.
    pub time_rank: usize,
    /// Time steps and what writes and reads the state are normalised without factors.
    pub bare_norms: bool,
}

impl ScanHyperparameters {
    /// Values of a row.
    pub fn inner(&self) -> usize {
        self.n_heads * self.head_width
    }

    /// Values that write to the states of a row, or read them.
    pub fn group_values(&self) -> usize {
        self.n_groups * self.state_width
    }
}

/// Numbers of a selective scan (`ssm.*`).
pub(super) fn scan(keys: &Keys<'_>, recipe: &Recipe) -> Result<Option<ScanHyperparameters>> {
    let is_mamba = match recipe.recurrent {
        Recurrent::Mamba => true,
        Recurrent::Mamba2 | Recurrent::Mamba2BesideAttention => false,
        _ => return Ok(None),
    };
    let inner = keys.count("ssm.inner_size", None)?;
    let state_width = keys.count("ssm.state_size", None)?;
    let time_rank = keys.count("ssm.time_step_rank", None)?;
    let bare_norms = keys.metadata.bool(&keys.key("ssm.dt_b_c_rms"))?.unwrap_or(false);
    let (n_heads, n_groups) = match is_mamba {
        true => (inner, 1),
        false => (time_rank, keys.count("ssm.group_count", None)?),
    };
    if !inner.is_multiple_of(n_heads)
        || !n_heads.is_multiple_of(n_groups)
        || inner.saturating_mul(state_width) > MAX_STATE
    {
        let found = format!("{n_heads} heads, {n_groups} groups and {inner} values");
        let expected = "heads that divide the values, groups that divide the heads, and at most \
                        2^28 values of state";
        return Err(Error::invalid(keys.key("ssm.time_step_rank"), found, expected));
    }
    keys.width("ssm.group_count", n_groups, state_width)?;
    let head_width = inner / n_heads;
    Ok(Some(ScanHyperparameters {
        n_heads,
        head_width,
        state_width,
        n_groups,
        time_rank,
        bare_norms,
    }))
}

/// Most values of one layer's state taken seriously.
const MAX_STATE: usize = 1 << 28;

/// Hands out what mixes each layer's positions, and counts the states.
pub(super) struct Mixers<'a> {
    recipe: &'a Recipe,
    /// Values that a convolution keeps per column.
    n_past: usize,
    embedding_length: usize,
    delta_net: Option<DeltaNetHyperparameters>,
    scan: Option<ScanHyperparameters>,
    n_attending: usize,
    /// Values of each recurrent step's state.
    pub state_widths: Vec<usize>,
}

impl<'a> Mixers<'a> {
    pub fn new(
        recipe: &'a Recipe,
        conv_taps: usize,
        embedding_length: usize,
        delta_net: Option<DeltaNetHyperparameters>,
        scan: Option<ScanHyperparameters>,
    ) -> Self {
        let (n_past, n_attending, state_widths) = (conv_taps - 1, 0, Vec::new());
        Mixers { recipe, n_past, embedding_length, delta_net, scan, n_attending, state_widths }
    }

    /// The mixer of the next layer.
    pub fn next(&mut self, is_recurrent: bool, n_heads: usize) -> Mixer {
        if !is_recurrent {
            return Mixer::Attention(self.next_attending());
        }
        let state = self.state_widths.len();
        match self.recipe.recurrent {
            Recurrent::None | Recurrent::Matrix if n_heads == 0 => Mixer::None,
            Recurrent::None | Recurrent::Matrix => Mixer::Matrix,
            Recurrent::ShortConv => {
                self.state_widths.push(self.n_past * self.embedding_length);
                Mixer::ShortConv(state)
            }
            Recurrent::DeltaNet { .. } => {
                let net = self.delta_net.expect("the recipe says so");
                let matrices = net.n_value_heads * net.key_width * net.value_width;
                self.state_widths.extend([self.n_past * net.qkv_width(), matrices]);
                Mixer::DeltaNet(state)
            }
            Recurrent::Mamba => {
                let scan = self.scan.expect("the recipe says so");
                self.state_widths
                    .extend([self.n_past * scan.inner(), scan.inner() * scan.state_width]);
                Mixer::Mamba(state)
            }
            Recurrent::Mamba2 => {
                self.push_mamba2();
                Mixer::Mamba2(state)
            }
            Recurrent::Mamba2BesideAttention => {
                self.push_mamba2();
                Mixer::Mamba2BesideAttention { kv_layer: self.next_attending(), state }
            }
        }
    }

    fn next_attending(&mut self) -> usize {
        self.n_attending += 1;
        self.n_attending - 1
    }

    fn push_mamba2(&mut self) {
        let scan = self.scan.expect("the recipe says so");
        let convolved = [scan.inner(), scan.group_values(), scan.group_values()];
        self.state_widths.extend(convolved.map(|width| self.n_past * width));
        self.state_widths.push(scan.inner() * scan.state_width);
    }
}

/// Largest convolution taken seriously.
const MAX_TAPS: usize = 64;

/// Taps of the convolutions; 1 where there are none.
pub(super) fn conv_taps(keys: &Keys<'_>, recipe: &Recipe) -> Result<usize> {
    let name = match recipe.recurrent {
        Recurrent::None | Recurrent::Matrix => return Ok(1),
        Recurrent::ShortConv => "shortconv.l_cache",
        Recurrent::DeltaNet { .. }
        | Recurrent::Mamba
        | Recurrent::Mamba2
        | Recurrent::Mamba2BesideAttention => "ssm.conv_kernel",
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
    let Recurrent::DeltaNet { grouped } = recipe.recurrent else { return Ok(None) };
    let n_key_heads = keys.count("ssm.group_count", None)?;
    let n_value_heads = keys.count("ssm.time_step_rank", None)?;
    let inner = keys.count("ssm.inner_size", None)?;
    if !n_value_heads.is_multiple_of(n_key_heads) || !inner.is_multiple_of(n_value_heads) {
        let found = format!("{n_value_heads} heads for {inner} values");
        let expected = format!("a multiple of {n_key_heads}, and a divisor of the values");
        return Err(Error::invalid(keys.key("ssm.time_step_rank"), found, expected));
    }
    let key_width = keys.count("ssm.state_size", None)?;
    keys.width("ssm.group_count", 2 * n_key_heads, key_width)?;
    if inner.saturating_mul(key_width) > MAX_STATE {
        let found = format!("{key_width}, for {inner} values");
        let expected = "at most 2^28 values of state";
        return Err(Error::invalid(keys.key("ssm.state_size"), found, expected));
    }
    Ok(Some(DeltaNetHyperparameters {
        n_key_heads,
        n_value_heads,
        grouped,
        key_width,
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
        Recurrent::Mamba2BesideAttention => Ok(vec![true; n_layers]),
        Recurrent::ShortConv | Recurrent::Mamba | Recurrent::Mamba2 | Recurrent::Matrix => {
            Ok(kv_heads.iter().map(|n| *n == 0).collect())
        }
        Recurrent::DeltaNet { .. } => {
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
