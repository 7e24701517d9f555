//! Adapters for a loaded model.

use std::sync::Arc;

use realm_gguf::Gguf;
use realm_ir::{Backend, Program, Uploaded};
use realm_model::{AdapterInfo, WeightRows, read_adapter};

use crate::error::Result;

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
