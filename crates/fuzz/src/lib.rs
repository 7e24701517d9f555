//! What is fuzzed: one function per parser of bytes nobody vouches for.
//!
//! Each takes any bytes. It returns when the parser gave a value or an error, and
//! panics when the parser did, or when a value breaks a promise. The fuzzer calls
//! them from the package in `fuzz/`; the tests of this crate call them with every
//! seed, so that a finding that was mended stays mended without a fuzzer.

mod adapter;
mod blocks;
mod container;
mod model;
mod template;
mod vocabulary;

pub use adapter::adapter;
pub use blocks::blocks;
pub use container::gguf;
pub use model::model;
pub use template::template;
pub use vocabulary::tokenizer;

/// A parser under test.
pub type Target = fn(&[u8]);

/// Every target by name; its seeds are in `fuzz/seeds/NAME/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("adapter", adapter),
    ("blocks", blocks),
    ("gguf", gguf),
    ("model", model),
    ("template", template),
    ("tokenizer", tokenizer),
];
