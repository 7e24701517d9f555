//! Adapters of a loaded model: what makes them ready, which there are, and which of them rows
//! run with.

use std::collections::BTreeMap;
use std::sync::Arc;

use realm_gguf::Gguf;
use realm_ir::{AdapterUse, Backend, Program, Uploaded};
use realm_model::{AdapterInfo, WeightRows, read_adapter};

use crate::error::{Error, Result};

/// An adapter of a model, by its number, and how strongly it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// What loading it gave.
    pub adapter: u32,
    /// Factor on everything that it adds; finite.
    pub scale: f32,
}

/// Makes adapters ready for one model on its backend.
pub struct AdapterLoader {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) program: Arc<Program>,
    pub(crate) parts: WeightRows,
}

impl AdapterLoader {
    /// Reads `file`, an adapter for the model in `base`, and gives it to the backend.
    ///
    /// # Errors
    /// What is wrong with the file, and what the backend has against it.
    pub fn load(&self, base: &Gguf, file: &Gguf) -> Result<(Uploaded, AdapterInfo)> {
        let (adapter, info) = read_adapter(file, base, &self.program, &self.parts)?;
        Ok((self.backend.upload_adapter(&adapter)?, info))
    }
}

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

    /// Takes an adapter that the model's backend has made ready.
    pub(crate) fn add(&mut self, id: u32, adapter: Uploaded) {
        self.loaded.insert(id, adapter);
    }

    /// Forgets an adapter, in the default too. What runs with it ends with it.
    pub(crate) fn remove(&mut self, id: u32) {
        self.loaded.remove(&id);
        self.default.retain(|lora| lora.adapter != id);
    }

    /// Sets the default; on an error it is unchanged.
    pub(crate) fn set_default(&mut self, default: Vec<Lora>) -> Result<()> {
        self.find(Some(&default))?;
        self.default = default;
        Ok(())
    }
}
