//! Which adapters there are, and which of them rows run with.

use std::collections::BTreeMap;
use std::sync::Arc;

use realm_ir::{AdapterUse, Uploaded};

use super::Core;
use crate::adapter::Lora;
use crate::error::{Error, Result};

/// What a sequence adds to the weights. Keys and values can only be used again by a
/// sequence that adds the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Adapters(Arc<[AdapterUse]>);

impl Adapters {
    /// For the batch.
    pub(crate) fn as_slice(&self) -> &[AdapterUse] {
        &self.0
    }
}

impl PartialEq for Adapters {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&AdapterUse, &AdapterUse)| {
            Arc::ptr_eq(&a.adapter, &b.adapter) && a.scale == b.scale
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).all(same)
    }
}

/// The adapters of a model.
#[derive(Debug, Default)]
pub(crate) struct AdapterSet {
    loaded: BTreeMap<u32, Uploaded>,
    /// For everything that does not say otherwise.
    default: Vec<Lora>,
}

impl AdapterSet {
    /// Those that are named, or the default.
    pub(crate) fn find(&self, wanted: Option<&[Lora]>) -> Result<Adapters> {
        let mut found = Vec::new();
        for Lora { adapter: id, scale } in wanted.unwrap_or(&self.default) {
            let Some(adapter) = self.loaded.get(id) else {
                return Err(Error::invalid(format!("adapter {id} is not loaded")));
            };
            if !scale.is_finite() {
                let message = format!("the scale of adapter {id} is {scale}, expected a number");
                return Err(Error::invalid(message));
            }
            if *scale != 0.0 {
                found.push(AdapterUse { adapter: adapter.clone(), scale: *scale });
            }
        }
        Ok(Adapters(found.into()))
    }
}

impl Core {
    /// Takes an adapter that the model's backend has made ready.
    pub fn add_adapter(&mut self, id: u32, adapter: Uploaded) {
        self.adapters.loaded.insert(id, adapter);
    }

    /// Forgets an adapter, in the default too. What runs with it ends with it.
    pub fn remove_adapter(&mut self, id: u32) {
        self.adapters.loaded.remove(&id);
        self.adapters.default.retain(|lora| lora.adapter != id);
    }

    /// Sets what everything runs with from now on that does not say otherwise.
    /// Generations under way go on with what they began with.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an adapter that is not loaded or a scale that is not
    /// finite; the default is then unchanged.
    pub fn set_default_adapters(&mut self, default: Vec<Lora>) -> Result<()> {
        self.adapters.find(Some(&default))?;
        self.adapters.default = default;
        Ok(())
    }
}
