//! What can differ from layer to layer.

use realm_gguf::Gguf;
use realm_ir::Activation;

use super::Keys;
use crate::error::{Error, Result};
use crate::recipe::{FeedForward, Recipe, Recurrent};

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
    /// A convolution and Mamba's selective scan, with the first of their two indices.
    Mamba(usize),
    /// Three convolutions and Mamba 2's selective scan, with the first of their indices.
    Mamba2(usize),
    /// The same beside attention.
    Mamba2BesideAttention {
        /// Index among the layers that store keys and values.
        kv_layer: usize,
        /// First index among the recurrent steps.
        state: usize,
    },
    /// A single matrix.
    Matrix,
    /// Nothing: positions stay to themselves.
    None,
}

impl Mixer {
    /// Whether positions see each other's keys and values.
    pub fn attends(self) -> bool {
        self.kv_layer().is_some() || matches!(self, Mixer::SharedAttention(_))
    }

    /// The index among the layers that store keys and values.
    pub fn kv_layer(self) -> Option<usize> {
        match self {
            Mixer::Attention(kv_layer) | Mixer::Mamba2BesideAttention { kv_layer, .. } => {
                Some(kv_layer)
            }
            _ => None,
        }
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
    /// Width of the feed-forward part; 0 for layers without.
    pub feed_forward_length: usize,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Positions the layer sees; none sees all.
    pub window: Option<u32>,
    /// Whether queries and keys rotate.
    pub rotates: bool,
    /// Whether the feed-forward part is a mixture of experts.
    pub has_experts: bool,
    /// Standard deviations above their mean from which gates stay; none keeps all.
    pub gate_sparsity: Option<f32>,
}

/// Widths of the parts of each block.
pub(super) struct LayerParts {
    /// Query heads.
    pub heads: Vec<usize>,
    /// Key and value heads.
    pub kv_heads: Vec<usize>,
    /// Width of the feed-forward part.
    pub feed_forward: Vec<usize>,
}

impl LayerParts {
    /// Reads them; only families in which parts can be missing may have zeros.
    pub fn read(keys: &Keys<'_>, recipe: &Recipe, n_blocks: usize) -> Result<Self> {
        let least = |may_be_missing: bool| u32::from(!may_be_missing);
        let (no_heads, no_kv_heads, no_feed_forward) = match recipe.recurrent {
            Recurrent::None | Recurrent::Mamba2BesideAttention => (false, false, false),
            Recurrent::ShortConv | Recurrent::DeltaNet { .. } => (false, true, false),
            Recurrent::Mamba | Recurrent::Mamba2 | Recurrent::Matrix => (true, true, true),
        };
        let heads = keys.per_layer("attention.head_count", n_blocks, None, least(no_heads))?;
        let name = "attention.head_count_kv";
        let kv_heads = keys.per_layer(name, n_blocks, Some(&heads), least(no_kv_heads))?;
        let name = "feed_forward_length";
        let mut feed_forward = keys.per_layer(name, n_blocks, None, least(no_feed_forward))?;
        if recipe.half_feed_forward {
            feed_forward.iter_mut().for_each(|length| *length /= 2);
        }
        Ok(LayerParts { heads, kv_heads, feed_forward })
    }
}

/// The activation of each layer's feed-forward part.
pub(super) fn activations(
    gguf: &Gguf,
    recipe: &Recipe,
    n_blocks: usize,
) -> Result<Vec<Activation>> {
    match recipe.feed_forward {
        FeedForward::Gated(activation) | FeedForward::Plain(activation) => {
            Ok(vec![activation; n_blocks])
        }
        FeedForward::PlainXielu => {
            let number = |name: &str| xielu_numbers(gguf, name, n_blocks);
            let softplus = |x: f32| x.exp().ln_1p();
            let positive = number("xielu.alpha_p")?;
            let negative = number("xielu.alpha_n")?;
            let beta = number("xielu.beta")?;
            let epsilon = number("xielu.eps")?;
            let layers = 0..n_blocks;
            Ok(layers
                .map(|layer| Activation::Xielu {
                    positive: softplus(positive[layer]),
                    negative: beta[layer] + softplus(negative[layer]),
                    beta: beta[layer],
                    epsilon: epsilon[layer],
                })
                .collect())
        }
    }
}

/// A number for each layer, or one for all; these keys have no architecture before them.
fn xielu_numbers(gguf: &Gguf, key: &str, n_blocks: usize) -> Result<Vec<f32>> {
    let metadata = gguf.metadata();
    let numbers = match metadata.get(key) {
        Some(realm_gguf::Value::Array(_)) => metadata.require_f32_array(key)?,
        _ => vec![metadata.require_f32(key)?; n_blocks],
    };
    if numbers.len() != n_blocks {
        let found = format!("{} values", numbers.len());
        return Err(Error::invalid(key, found, format!("{n_blocks}, one per layer")));
    }
    match numbers.iter().find(|number| !(number.is_finite() && number.abs() < 80.0)) {
        Some(number) => Err(Error::invalid(key, number, "finite numbers below 80")),
        None => Ok(numbers),
    }
}
