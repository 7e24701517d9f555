//! What of a model stays the same while it runs.

use std::sync::{Arc, Mutex, Once};

use realm_gguf::Gguf;
use realm_tokenizer::Tokenizer;

use crate::adapter::AdapterLoader;
use crate::chat::Templates;
use crate::error::{Error, Result};
use crate::info::ModelInfo;
use crate::options::LoadOptions;

/// A loaded model.
pub struct Loaded {
    /// Facts, without `load_ms`.
    pub info: ModelInfo,
    /// The file.
    pub gguf: Gguf,
    /// Makes its adapters; none without weights.
    pub adapters: Option<AdapterLoader>,
    /// None where the file has no vocabulary.
    pub(crate) text: Option<TextTools>,
    /// What is wrong with its first weight that is not finite, if that was asked and there is one.
    pub(crate) cause: Mutex<Option<Option<Arc<Error>>>>,
}

impl Loaded {
    pub(crate) fn new(
        info: ModelInfo,
        gguf: Gguf,
        text: Option<TextTools>,
        adapters: Option<AdapterLoader>,
    ) -> Self {
        Loaded { info, gguf, adapters, text, cause: Mutex::default() }
    }

    /// What turns text into tokens and back.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the file has no vocabulary.
    pub(crate) fn text(&self) -> Result<&TextTools> {
        self.text.as_ref().ok_or_else(|| no_vocabulary(&self.info.tokenizer))
    }
}

/// What turns text into tokens and back.
pub(crate) struct TextTools {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) templates: Templates,
    /// Whether somebody has been told of a prompt that begins twice.
    told_of_two_bos: Once,
}

impl TextTools {
    /// Those of a file; none where it says that it has no vocabulary.
    ///
    /// # Errors
    /// What is wrong with the vocabulary; a template of the options that is none, or that has no
    /// vocabulary to be used with.
    pub(crate) fn read(gguf: &Gguf, options: &LoadOptions) -> Result<Option<Self>> {
        let chosen = options.chat_template.clone();
        let tokenizer = match Tokenizer::from_metadata(gguf.metadata()) {
            Ok(tokenizer) => Arc::new(tokenizer),
            Err(error) => match &*error {
                realm_tokenizer::Error::NoVocabulary { found, .. } if chosen.is_some() => {
                    return Err(no_vocabulary(found));
                }
                realm_tokenizer::Error::NoVocabulary { .. } => return Ok(None),
                _ => return Err(error.into()),
            },
        };
        let templates = Templates::new(gguf.clone(), tokenizer.clone(), chosen)?;
        Ok(Some(TextTools { tokenizer, templates, told_of_two_bos: Once::new() }))
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

fn no_vocabulary(tokenizer: &str) -> Error {
    Error::invalid(format!(
        "the file has no vocabulary (tokenizer.ggml.model is \"{tokenizer}\"), so the model takes \
         and gives no text; pass token ids, and read the tokens of the answer"
    ))
}
