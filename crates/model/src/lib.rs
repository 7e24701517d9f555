//! From a GGUF file to a program of steps.
//!
//! [`arch`] holds one recipe per architecture: a file of data that says which
//! parts the family has. [`Hyperparameters`] reads the numbers from the file's
//! metadata; nothing that a family does not fix by definition has a default.
//! [`build`] puts both together with the file's tensors, checking the shape of
//! each, and gives a [`realm_ir::Program`].

pub mod arch;

mod adapter;
mod build;
mod config;
mod derived;
mod embedding;
mod error;
mod finite;
mod hyperparameters;
mod program_builder;
mod recipe;
mod rope;

pub use adapter::{AdapterInfo, WeightRows, read_adapter};
pub use build::{ModelPlan, build};
pub use config::{ModelConfig, vocabulary_only};
pub use embedding::{EmbeddingPlan, Pooling};
pub use error::{Error, Result};
pub use finite::check_finite;
pub use hyperparameters::Hyperparameters;
pub use recipe::*;
