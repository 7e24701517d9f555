//! What a whole file means: the plan of a model, its tokenizer and template, or an
//! importance matrix.

use realm_gguf::Gguf;
use realm_quantize::Imatrix;
use realm_tokenizer::{EncodeOptions, Tokenizer, chat_template_or_builtin};

/// Reads a file as everything that a file can be.
pub fn model(bytes: &[u8]) {
    let Ok(gguf) = Gguf::from_bytes(bytes) else { return };
    let _ = Imatrix::from_gguf(&gguf);
    let _ = realm_model::vocabulary_only(&gguf);
    if let Ok(plan) = realm_model::build(&gguf, 64) {
        assert!(plan.program.n_layers() > 0, "a model has layers");
    }
    if let Ok(tokenizer) = Tokenizer::from_metadata(gguf.metadata()) {
        tokenizer.encode("Hello <s> world", EncodeOptions::default());
        let _ = chat_template_or_builtin(gguf.metadata(), &tokenizer, true);
    }
}
