//! Numbers from metadata, each checked as it is read.

use realm_gguf::{Gguf, Metadata, U32OrArray};

use crate::error::{Error, Result};

/// Largest width, head count or vocabulary taken seriously. Products of two of
/// them fit a 64-bit integer; tensors of such size do not exist.
pub(super) const MAX_COUNT: u32 = 1 << 24;

/// Largest width of one head taken seriously.
pub(super) const MAX_HEAD: usize = 1 << 16;

/// Largest width of several heads or groups together. A sum of some of them, or what the longest
/// convolution keeps of them, can be counted in 32 bits.
pub(super) const MAX_WIDTH: usize = 1 << 25;

/// Reads keys below `<architecture>.`.
pub(crate) struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'a str,
}

impl<'a> Keys<'a> {
    pub fn new(gguf: &'a Gguf, architecture: &'a str) -> Self {
        Keys { metadata: gguf.metadata(), architecture }
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// Layers that the model runs: without those blocks at the end that predict tokens further
    /// ahead and that nothing else needs (`nextn_predict_layers`, arXiv 2412.19437 section 2.2).
    pub fn n_layers(&self) -> Result<usize> {
        let n_blocks = self.count("block_count", None)?;
        let key = self.key("nextn_predict_layers");
        let n_predicting = self.metadata.u32(&key)?.unwrap_or(0) as usize;
        if n_predicting >= n_blocks {
            let expected = format!("fewer than the {n_blocks} blocks");
            return Err(Error::invalid(key, n_predicting, expected));
        }
        Ok(n_blocks - n_predicting)
    }

    /// A count from 1 on, `default` where the key is absent, an error where both are.
    pub(super) fn count(&self, name: &str, default: Option<usize>) -> Result<usize> {
        let key = self.key(name);
        match (self.metadata.u32(&key)?, default) {
            (Some(value @ 1..=MAX_COUNT), _) => Ok(value as usize),
            (Some(value), _) => Err(Error::invalid(key, value, format!("1 to {MAX_COUNT}"))),
            (None, Some(default)) => Ok(default),
            (None, None) => Ok(self.metadata.require_u32(&key)? as usize),
        }
    }

    /// The width of one head.
    pub(super) fn head(&self, name: &str, default: Option<usize>) -> Result<usize> {
        match self.count(name, default)? {
            width @ 1..=MAX_HEAD => Ok(width),
            width => Err(Error::invalid(self.key(name), width, format!("1 to {MAX_HEAD}"))),
        }
    }

    /// The width of `n` parts of `each` values together, of which the key `name` says one.
    pub(super) fn width(&self, name: &str, n: usize, each: usize) -> Result<usize> {
        n.checked_mul(each).filter(|width| *width <= MAX_WIDTH).ok_or_else(|| {
            let found = format!("{n} times {each} values");
            Error::invalid(self.key(name), found, format!("at most {MAX_WIDTH} together"))
        })
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

    pub(super) fn require_positive(&self, name: &str) -> Result<f32> {
        match self.positive(name)? {
            Some(value) => Ok(value),
            None => Ok(self.metadata.require_f32(&self.key(name))?),
        }
    }

    /// A cap: absent or zero means none.
    pub(super) fn cap(&self, name: &str) -> Result<Option<f32>> {
        match self.metadata.f32(&self.key(name))? {
            Some(0.0) => Ok(None),
            _ => self.positive(name),
        }
    }

    /// One number per layer, each `least..=MAX_COUNT`.
    pub(super) fn per_layer(
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
