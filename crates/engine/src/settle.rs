//! What a model is going to be run with, settled before anything is opened: the sizes that were
//! asked for, those that suit the backend, and the memory that they take.

use std::sync::Arc;

use realm_gguf::Gguf;
use realm_ir::{
    Backend, BackendLimits, KvLayer, KvLayout, KvType, MemoryPlan, Program, SessionConfig,
    StateLayout, WeightLayout, bytes_of,
};
use realm_model::{EmbeddingPlan, ModelConfig, ModelPlan, WeightRows};

use crate::budget;
use crate::engine::Limits;
use crate::error::{Error, Result};
use crate::kv_plan as kv;
use crate::options::LoadOptions;

/// Bytes that a page takes where it is held: in its sequence's table, with who else holds it.
const PAGE_ENTRY_BYTES: usize = 64;

/// What is asked for, whatever the backend.
pub(crate) struct Demand {
    pub(crate) program: Arc<Program>,
    kv_layers: Vec<KvLayer>,
    state_widths: Vec<usize>,
    is_encoder: bool,
    n_vocab: usize,
    pub(crate) context_length: usize,
    pub(crate) max_sequences: usize,
    options: LoadOptions,
}

/// What a session is opened with.
pub(crate) struct Settled {
    pub(crate) limits: Limits,
    pub(crate) rows_beside_decoding: usize,
    /// With the layout that was decided on.
    pub(crate) config: SessionConfig,
    pub(crate) memory: MemoryPlan,
}

/// A model as it is planned, whatever the backend.
pub(crate) struct Planned {
    pub(crate) demand: Demand,
    pub(crate) embedding: EmbeddingPlan,
    pub(crate) parts: WeightRows,
    pub(crate) config: ModelConfig,
}

/// Plans the model of a file for what is asked for, by its header.
///
/// # Errors
/// What is wrong with the file; `INVALID_ARGUMENT` for a context or more sequences than it can
/// have.
pub(crate) fn plan(gguf: &Gguf, options: &LoadOptions) -> Result<Planned> {
    let architecture = gguf.metadata().require_str("general.architecture")?;
    let trained = gguf.metadata().u32(&format!("{architecture}.context_length"))?;
    let context_length = kv::context_length(options, trained.map(|n| n as usize))?;
    let plan = realm_model::build(gguf, context_length)?;
    let ModelPlan { program, parts, kv_layers, embedding, state_widths, config } = plan;
    let (trained, is_encoder) = (config.trained_context_length, embedding.is_encoder);
    if is_encoder && context_length > trained {
        return Err(Error::invalid(format!(
            "contextLength is {context_length}, this encoder knows {trained} positions"
        )));
    }
    // What is wrong with the file is no backend's refusal.
    check(&program, &kv_layers, &state_widths)?;
    let demand = Demand {
        program: Arc::new(program),
        kv_layers,
        state_widths,
        is_encoder,
        n_vocab: config.n_vocab,
        context_length,
        max_sequences: kv::max_sequences(options)?,
        options: if is_encoder { kv::exact(options) } else { options.clone() },
    };
    Ok(Planned { demand, embedding, parts, config })
}

/// That the steps of a program fit together, whatever the sizes of a session.
fn check(program: &Program, kv_layers: &[KvLayer], state_widths: &[usize]) -> Result<()> {
    let layers = kv_layers.to_vec();
    program.check(&SessionConfig {
        kv: KvLayout { layers, page_tokens: 1, n_pages: 1, ty: KvType::F32 },
        states: StateLayout { widths: state_widths.to_vec(), n_states: 1 },
        max_rows: 1,
        max_outputs: 1,
        layout: WeightLayout::Mapped,
    })?;
    Ok(())
}

impl Demand {
    /// The sizes of a session on `backend`, and what it takes of memory. Copies of the weights
    /// that need not be made are not made where they find no room.
    ///
    /// # Errors
    /// What the backend cannot do; `OUT_OF_MEMORY` above the limit of the options.
    pub(crate) fn settle(&self, backend: &dyn Backend) -> Result<Settled> {
        let suited = backend.limits();
        let layers = self.kv_layers.clone();
        let sequences =
            kv::Sequences { context_length: self.context_length, n: self.max_sequences };
        let kv = kv::layout(&self.options, sequences, suited.page_tokens, layers)?;
        let limits = self.limits(&suited, kv.page_tokens, kv.n_pages);
        let widths = self.state_widths.clone();
        let mut config = SessionConfig {
            kv,
            states: StateLayout { widths, n_states: limits.n_states },
            max_rows: limits.max_rows,
            max_outputs: limits.max_outputs,
            layout: self.options.layout,
        };
        suited.check(backend.name(), &config)?;
        self.program.check(&config)?;
        let memory = self.memory(backend, &config, &limits)?;
        config.layout = memory.layout;
        let rows_beside_decoding = suited.rows_beside_decoding;
        Ok(Settled { limits, rows_beside_decoding, config, memory })
    }

    /// Sizes of the session. An encoder reads a text in one batch, and all its rows are wanted,
    /// which costs little without a vocabulary to multiply them with.
    fn limits(&self, suited: &BackendLimits, page_tokens: usize, n_pages: usize) -> Limits {
        let rows = suited.batch_rows;
        let (max_rows, max_outputs) = match self.is_encoder {
            true => (rows.max(self.context_length), rows),
            false => (rows, suited.output_rows),
        };
        Limits {
            context_length: self.context_length,
            page_tokens,
            n_pages,
            max_rows,
            max_outputs,
            n_vocab: self.n_vocab,
            n_states: if self.state_widths.is_empty() { 0 } else { self.max_sequences },
        }
    }

    fn memory(
        &self,
        backend: &dyn Backend,
        config: &SessionConfig,
        limits: &Limits,
    ) -> Result<MemoryPlan> {
        let plan = |layout| -> Result<MemoryPlan> {
            let config = SessionConfig { layout, ..config.clone() };
            let mut memory = backend.memory(&self.program, &config)?;
            memory.slots = memory.slots.saturating_add(self.own_bytes(limits));
            Ok(memory)
        };
        let memory = plan(config.layout)?;
        match budget::require(&memory, self.options.memory_limit) {
            Ok(()) => Ok(memory),
            Err(_) if config.layout == WeightLayout::Auto && memory.copies > 0 => {
                let memory = plan(WeightLayout::Mapped)?;
                budget::require(&memory, self.options.memory_limit)?;
                Ok(memory)
            }
            Err(error) => Err(error),
        }
    }

    /// Bytes that the engine takes beside the session: the lists of pages and the rows of results
    /// that it reads.
    fn own_bytes(&self, limits: &Limits) -> u64 {
        let row_bytes = 4 * self.program.width(self.program.logits);
        bytes_of(limits.n_pages, PAGE_ENTRY_BYTES) + bytes_of(limits.max_outputs, row_bytes)
    }
}
