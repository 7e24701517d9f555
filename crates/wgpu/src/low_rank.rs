//! LoRA adapters on the device: pairs of matrices by the weight that they are added to.

use std::collections::HashMap;
use std::sync::Arc;

use realm_ir::{Adapter, AdapterUse, Error, LowRank, Result, WeightRef};

use crate::NAME;
use crate::gpu::Gpu;
use crate::weight::Weight;

/// Additions to some weights of a program.
pub(crate) struct LowRankAdapter {
    products: HashMap<WeightRef, Pair>,
    lookups: HashMap<WeightRef, Pair>,
}

/// `scale * b a`, shaped as in [`LowRank`].
pub(crate) struct Pair {
    pub a: Weight,
    pub b: Weight,
    pub scale: f32,
}

impl LowRankAdapter {
    /// Uploads an adapter's matrices.
    ///
    /// # Errors
    /// Those of [`Weight::upload`].
    pub fn upload(gpu: &Gpu, adapter: &Adapter) -> Result<Self> {
        let pair = |part: &LowRank| -> Result<(WeightRef, Pair)> {
            let a = Weight::upload(gpu, &part.a)?;
            let b = Weight::upload(gpu, &part.b)?;
            Ok((part.weight, Pair { a, b, scale: part.scale }))
        };
        let pairs = |parts: &[LowRank]| parts.iter().map(pair).collect::<Result<HashMap<_, _>>>();
        Ok(LowRankAdapter {
            products: pairs(&adapter.products)?,
            lookups: pairs(&adapter.lookups)?,
        })
    }

    /// The adapter behind a handle that this backend gave out.
    ///
    /// # Errors
    /// `Unsupported` for one of another backend.
    pub fn of(used: &AdapterUse) -> Result<Arc<Self>> {
        Arc::clone(&used.adapter).downcast().map_err(|_| Error::Unsupported {
            what: "an adapter uploaded to another backend".to_owned(),
            backend: NAME,
        })
    }

    /// What is added where `weight` is multiplied.
    pub fn product(&self, weight: WeightRef) -> Option<&Pair> {
        self.products.get(&weight)
    }

    /// What is added where rows of `weight` are looked up.
    pub fn lookup(&self, weight: WeightRef) -> Option<&Pair> {
        self.lookups.get(&weight)
    }
}
