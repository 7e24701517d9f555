//! What of a model stays the same while it runs.

use std::sync::{Arc, Once};

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
    /// Whether somebody has been told of a prompt that begins twice.
    told_of_two_bos: Once,
}

impl Loaded {
    pub(crate) fn new(
        info: ModelInfo,
        gguf: Gguf,
        tokenizer: Arc<Tokenizer>,
        templates: Templates,
        adapters: Option<AdapterLoader>,
    ) -> Self {
        Loaded { info, gguf, tokenizer, adapters, templates, told_of_two_bos: Once::new() }
    }

    /// Tells, the first time, of a prompt that begins with two BOS: the one that its text names and
    /// the one that was added.
    pub(crate) fn warn_of_two_bos(&self) {
        let Some(bos) = self.tokenizer.bos().and_then(|id| self.tokenizer.token_text(id)) else {
            return;
        };
        self.told_of_two_bos.call_once(|| {
            tracing::warn!(
                "a prompt begins with {bos} twice: its text begins with it, as those of \
                 applyChatTemplate may, and addSpecial puts another in front; answers may become \
                 worse. Pass addSpecial: false, or use chat"
            );
        });
    }
}
