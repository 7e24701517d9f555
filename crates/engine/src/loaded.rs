//! What of a model stays the same while it runs.

use std::sync::Arc;

use realm_gguf::Gguf;
use realm_tokenizer::Tokenizer;

use crate::adapter::AdapterLoader;
use crate::chat::Templates;
use crate::info::ModelInfo;

/// A loaded model.
pub struct Loaded {
    /// Facts, without `load_ms`.
    pub info: ModelInfo,
    /// The file.
    pub gguf: Gguf,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Makes its adapters; none without weights.
    pub adapters: Option<AdapterLoader>,
    /// Its chat templates.
    pub(crate) templates: Templates,
}
