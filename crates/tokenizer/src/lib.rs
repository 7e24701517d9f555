//! Tokenizers and chat templates from GGUF metadata.
//!
//! [`Tokenizer::from_metadata`] reads the vocabulary of a model and gives the
//! same token ids as llama.cpp: byte-pair encoding (`gpt2`, `gemma4`),
//! SentencePiece (`llama`), WordPiece (`bert`), Unigram (`t5`) and RWKV (`rwkv`).
//!
//! [`chat_template`] picks and compiles the template a model brings; it renders as
//! Hugging Face transformers does. [`chat_template_or_builtin`] has one of its own
//! for models that bring none.
//!
//! Vocabulary, merges and template come out of a file that is not trusted: what
//! is wrong with them is an [`Error`]. A text of n bytes takes no more than about
//! n log n steps, or n times the length of the longest token.

mod bpe;
mod byte_alphabet;
mod charsmap;
mod error;
mod merge;
mod partition;
mod pieces;
mod pre_tokenizer;
mod rwkv;
mod special;
mod spm;
mod stream;
mod strings;
mod template;
mod tokenizer;
mod trie;
mod unicode;
mod unigram;
mod vocabulary;
mod words;
mod wpm;

pub use error::{Error, Result};
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, TemplateOrigin, chat_template, chat_template_or_builtin};
pub use tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
