//! What can be said about a loaded model.

use std::collections::BTreeMap;

use realm_ir::MemoryPlan;

/// Facts about a model and how it is run.
#[derive(Clone, Debug, Default)]
pub struct ModelInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Such as `Q4_K_M`; none when the file does not say.
    pub file_type: Option<String>,
    /// Bytes of the file, or of all its parts.
    pub file_bytes: u64,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Bytes of tensors by storage type.
    pub weight_types: BTreeMap<String, u64>,
    /// Bytes of weights read to make one token; 0 without weights.
    pub bytes_per_token: u64,
    /// Values in all tensors.
    pub parameter_count: u64,
    /// Layers.
    pub n_layers: usize,
    /// Width of the hidden state, and of an embedding.
    pub embedding_length: usize,
    /// Values per row between two layers: the hidden state and what else is carried; 0
    /// without weights.
    pub hidden_size: usize,
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
    /// Positions per sequence it was loaded with; 0 without weights.
    pub context_length: usize,
    /// Sequences that can be at full length at once; 0 without weights.
    pub max_sequences: usize,
    /// Storage of keys and values.
    pub kv_type: String,
    /// Positions per page of the KV cache.
    pub kv_page_tokens: usize,
    /// Bytes the whole KV cache can take; those of `memory`.
    pub kv_cache_bytes: u64,
    /// `mapped` or `packed`; empty without weights.
    pub layout: String,
    /// Bytes that packed copies of matrices take once they are made; those of `memory`.
    pub packed_bytes: u64,
    /// What it takes of memory when every page, state and copy is in use; all 0 without weights.
    pub memory: MemoryPlan,
    /// How embeddings are pooled unless asked otherwise; none without weights.
    pub pooling: Option<String>,
    /// `tokenizer.ggml.model`.
    pub tokenizer: String,
    /// The token in front of a text.
    pub bos_token: Option<u32>,
    /// The token behind a text.
    pub eos_token: Option<u32>,
    /// Tokens that end an answer.
    pub end_of_generation_tokens: Vec<u32>,
    /// The file's own template.
    pub chat_template: Option<String>,
    /// Where the template in use comes from: `option`, `file`, or the name of a
    /// built-in one; none where there is none.
    pub chat_template_origin: Option<String>,
    /// The backend that runs it; empty without weights.
    pub backend: String,
    /// Why this backend, naming every refusal before it.
    pub backend_reason: String,
    /// The device that runs it: a processor or a graphics card; empty without weights.
    pub device: String,
    /// Threads of the backend.
    pub threads: usize,
    /// Kernel in use by weight type.
    pub kernels: BTreeMap<String, String>,
    /// Milliseconds that loading took.
    pub load_ms: f64,
}

/// What a model would take of memory if it were loaded.
#[derive(Clone, Debug, Default)]
pub struct MemoryEstimate {
    /// Bytes of each kind; all 0 for a load without weights.
    pub memory: MemoryPlan,
    /// The backend that it is for; empty without weights.
    pub backend: String,
    /// Positions per sequence; 0 without weights.
    pub context_length: usize,
    /// Sequences that can be at full length at once; 0 without weights.
    pub max_sequences: usize,
}
