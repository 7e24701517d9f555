//! What a file says about itself, for people and for the engine.

use realm_gguf::{Gguf, Metadata};

use crate::error::Result;
use crate::hyperparameters::Hyperparameters;

/// Facts about a model that do not depend on how it is run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelConfig {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Name of `general.file_type`, such as `Q4_K_M`.
    pub file_type: Option<String>,
    /// Layers; 0 for a file without weights.
    pub n_layers: usize,
    /// Width of the hidden state.
    pub embedding_length: usize,
    /// Query heads of the first layer.
    pub n_heads: usize,
    /// Key and value heads of the first layer.
    pub n_kv_heads: usize,
    /// Width of the feed-forward part of the first layer.
    pub feed_forward_length: usize,
    /// Entries of the vocabulary.
    pub n_vocab: usize,
    /// Positions the model was trained for.
    pub trained_context_length: usize,
    /// Values in all tensors.
    pub parameter_count: u64,
}

impl ModelConfig {
    pub(crate) fn new(gguf: &Gguf, numbers: &Hyperparameters) -> Result<Self> {
        let first = numbers.layers[0];
        Ok(ModelConfig {
            n_layers: numbers.layers.len(),
            embedding_length: numbers.embedding_length,
            n_heads: first.n_heads,
            n_kv_heads: first.n_kv_heads,
            feed_forward_length: first.feed_forward_length,
            n_vocab: numbers.n_vocab,
            trained_context_length: numbers.context_length,
            ..vocabulary_only(gguf)?
        })
    }
}

/// What can be said about a file that is opened for its vocabulary alone; its
/// architecture need not be one that can be run.
///
/// # Errors
/// A key of the wrong type.
pub fn vocabulary_only(gguf: &Gguf) -> Result<ModelConfig> {
    let metadata = gguf.metadata();
    let n_vocab = metadata.string_array("tokenizer.ggml.tokens")?.map_or(0, |tokens| tokens.len());
    let parameter_count = gguf
        .tensors()
        .iter()
        .map(|tensor| tensor.shape().iter().map(|n| *n as u64).product::<u64>())
        .fold(0, u64::saturating_add);
    Ok(ModelConfig {
        architecture: metadata.require_str("general.architecture")?.to_owned(),
        name: metadata.str("general.name")?.map(str::to_owned),
        file_type: file_type(metadata)?,
        n_vocab,
        parameter_count,
        ..ModelConfig::default()
    })
}

/// Names of `general.file_type`. Source: `llama_ftype` in llama.cpp
/// `include/llama.h`.
const FILE_TYPES: &[(u32, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
];

fn file_type(metadata: &Metadata) -> Result<Option<String>> {
    let id = metadata.u32("general.file_type")?;
    Ok(id.map(|id| match FILE_TYPES.iter().find(|row| row.0 == id) {
        Some(row) => row.1.to_owned(),
        None => format!("file type {id}"),
    }))
}
