//! Tokenizers and chat templates from GGUF metadata.
//!
//! [`Tokenizer::from_metadata`] reads the vocabulary of a model and gives the
//! same token ids as llama.cpp: byte-pair encoding (`gpt2`, `gemma4`),
//! SentencePiece (`llama`) and WordPiece (`bert`). Unigram (`t5`) and RWKV
//! vocabularies are refused. [`chat_template`] picks and compiles the template
//! a model brings; it renders as Hugging Face transformers does.
//!
//! Vocabulary, merges and template come out of a file that is not trusted: what
//! is wrong with them is an [`Error`], and no text takes more than about
//! n log n steps for its n bytes.

mod bpe;
mod byte_alphabet;
mod error;
mod merge;
mod partition;
mod pieces;
mod pre_tokenizer;
mod prefix_index;
mod special;
mod spm;
mod stream;
mod strings;
mod template;

mod tokenizer;
mod unicode;
mod vocabulary;
mod wpm;

pub use error::Error;
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, chat_template};

pub use tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
