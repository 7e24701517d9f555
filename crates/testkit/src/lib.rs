//! Tiny random GGUF files, the naive oracle, conformance data.

pub mod bench;
pub mod compare;
pub mod families;
pub mod gemma3n;
pub mod gguf_writer;
pub mod header;
pub mod kit;
pub mod lora;
pub mod one_layer;
pub mod oracle;
pub mod perplexity;
pub mod program;
pub mod random;
