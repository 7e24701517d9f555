//! An adapter on the CPU: its matrices by the weight they are added to.

use std::collections::HashMap;

use realm_ir::{Adapter, AdapterUse, Error, LowRank, Result, WeightRef};

use crate::weight::CpuWeight;

/// Additions to some weights of a program.
pub(crate) struct CpuAdapter {
    products: HashMap<WeightRef, LowRankPair>,
    lookups: HashMap<WeightRef, LowRankPair>,
}

/// `scale * b a`, shaped as in [`LowRank`].
pub(crate) struct LowRankPair {
    pub a: CpuWeight,
    pub b: CpuWeight,
    pub scale: f32,
}

impl CpuAdapter {
    /// # Errors
    /// `UnsupportedType` when a matrix has no compute format.
    pub fn new(adapter: &Adapter) -> Result<Self> {
        Ok(CpuAdapter { products: pairs(&adapter.products)?, lookups: pairs(&adapter.lookups)? })
    }

    /// The adapter behind a handle that this backend gave out.
    pub fn of(used: &AdapterUse) -> Result<&Self> {
        used.adapter.downcast_ref().ok_or_else(|| Error::Unsupported {
            what: "an adapter uploaded to another backend".to_owned(),
            backend: crate::backend::NAME,
        })
    }

    /// What is added where `weight` is multiplied.
    pub fn product(&self, weight: WeightRef) -> Option<&LowRankPair> {
        self.products.get(&weight)
    }

    /// What is added where rows of `weight` are looked up.
    pub fn lookup(&self, weight: WeightRef) -> Option<&LowRankPair> {
        self.lookups.get(&weight)
    }
}

fn pairs(parts: &[LowRank]) -> Result<HashMap<WeightRef, LowRankPair>> {
    let pair = |part: &LowRank| -> Result<LowRankPair> {
        let (a, b) = (CpuWeight::new(&part.a)?, CpuWeight::new(&part.b)?);
        Ok(LowRankPair { a, b, scale: part.scale })
    };
    parts.iter().map(|part| Ok((part.weight, pair(part)?))).collect()
}
