//! What of a model stays the same while it runs.

use std::sync::Arc;

use realm_gguf::Gguf;
use realm_tokenizer::Tokenizer;

use crate::adapter::AdapterLoader;
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
    /// The chat template instead of the file's: the name of a built-in one, or Jinja.
    pub chat_template: Option<String>,
}
