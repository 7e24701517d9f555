//! From an opened file to everything that generating needs.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use realm_gguf::{Gguf, TensorData, TensorType};
use realm_ir::{Backend, Program, Session, SessionConfig, Uploaded, WeightLayout, WeightRef};
use realm_model::{EmbeddingPlan, ModelConfig};
use realm_tokenizer::{DecodeOptions, StreamDecoder, Tokenizer};

use crate::adapter::AdapterLoader;
use crate::chat::Templates;
use crate::engine::Limits;
use crate::error::{Error, Result};
use crate::info::{MemoryEstimate, ModelInfo};
use crate::loaded::Loaded;
use crate::options::LoadOptions;
use crate::requests::{TextStream, Vocabulary};
use crate::runner::OpenSession;
use crate::settle::{self, Demand, Planned, Settled};

/// A backend that could run the model, by its name.
pub struct BackendChoice {
    /// The name in options and reports.
    pub name: String,
    /// Starts it.
    pub open: Box<dyn Fn() -> Result<OpenBackend> + Send>,
}

/// A backend that was started.
pub struct OpenBackend {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// Threads it computes with; 0 where it does not compute on the CPU.
    pub threads: usize,
    /// The device it computes on.
    pub device: String,
    /// Name of the kernel for matrices of a weight type that are kept in a layout.
    pub kernel: fn(TensorType, WeightLayout) -> Option<String>,
}

/// A future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Lets others have a turn, between two pieces of work. For event loops, where nobody
/// else is heard meanwhile; programs with threads have none.
pub type Pause = fn() -> LocalFuture<'static, ()>;

/// Who watches over loading.
pub struct Watcher<'a> {
    /// Called with 0 to 1 as loading goes on.
    pub progress: &'a mut dyn FnMut(f32),
    /// Set to give up with `ABORTED`.
    pub cancel: &'a AtomicBool,
    /// Called between two weights.
    pub pause: Option<Pause>,
}

impl Watcher<'_> {
    async fn report(&mut self, fraction: f32) -> Result<()> {
        if let Some(pause) = self.pause {
            pause().await;
        }
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Aborted);
        }
        (self.progress)(fraction);
        Ok(())
    }
}

/// What an engine runs on.
pub struct Runnable {
    /// Opened for `program`.
    pub session: Box<dyn Session>,
    /// Opens another like it, of the weights that it keeps.
    pub open_session: OpenSession,
    /// The model.
    pub program: Arc<Program>,
    /// Its hidden states and scores.
    pub embedding: EmbeddingPlan,
    /// Sizes of the session.
    pub limits: Limits,
    /// Most rows that are not decoding in a batch that also decodes.
    pub rows_beside_decoding: usize,
}

/// Reads the tokenizer of `gguf`, plans the model, and takes the first of
/// `backends` that can run it. Without weights (`vocab_only`) there is nothing to run.
///
/// # Errors
/// What is wrong with the file; what each backend had against it; `ABORTED`.
pub async fn load(
    gguf: Gguf,
    options: &LoadOptions,
    backends: &[BackendChoice],
    watcher: &mut Watcher<'_>,
) -> Result<(Loaded, Option<Runnable>)> {
    watcher.report(0.0).await?;
    let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata())?);
    let mut info = file_info(&gguf, &tokenizer)?;
    let chosen = options.chat_template.clone();
    let templates = Templates::new(gguf.clone(), tokenizer.clone(), chosen)?;
    info.chat_template_origin = templates.origin();
    if options.vocab_only {
        set_config(&mut info, realm_model::vocabulary_only(&gguf)?);
        watcher.report(1.0).await?;
        return Ok((Loaded { info, gguf, tokenizer, templates, adapters: None }, None));
    }
    let planned = settle::plan(&gguf, options)?;
    let (n_tokens, n_vocab) = (tokenizer.n_tokens(), planned.config.n_vocab);
    if n_tokens > n_vocab {
        return Err(Error::from(Box::new(realm_model::Error::Invalid {
            what: "tokenizer.ggml.tokens".into(),
            found: format!("{n_tokens} tokens"),
            expected: format!("at most {n_vocab}, the rows of token_embd.weight"),
        })));
    }
    let trained = planned.config.trained_context_length;
    if planned.demand.context_length > trained {
        tracing::warn!(
            "contextLength is {}, the model was trained for {trained} positions: \
             what comes behind them may make no sense",
            planned.demand.context_length
        );
    }
    let (runnable, adapters) = first_that_runs(planned, backends, &mut info, watcher).await?;
    watcher.report(1.0).await?;
    Ok((Loaded { info, gguf, tokenizer, templates, adapters: Some(adapters) }, Some(runnable)))
}

/// What the model of `gguf` would take of memory on the first of `backends` that has nothing
/// against it, by its header alone: what [`load`] settles before it opens anything. Backends are
/// started, nothing is uploaded.
///
/// # Errors
/// Those of [`load`].
pub fn estimate(
    gguf: &Gguf,
    options: &LoadOptions,
    backends: &[BackendChoice],
) -> Result<MemoryEstimate> {
    if options.vocab_only {
        realm_model::vocabulary_only(gguf)?;
        return Ok(MemoryEstimate::default());
    }
    let Planned { demand, .. } = settle::plan(gguf, options)?;
    let mut refusals = Vec::new();
    for choice in backends {
        match (choice.open)().and_then(|open| demand.settle(&*open.backend)) {
            Ok(Settled { memory, .. }) => {
                return Ok(MemoryEstimate {
                    memory,
                    backend: choice.name.clone(),
                    context_length: demand.context_length,
                    max_sequences: demand.max_sequences,
                });
            }
            Err(error) => refusals.push((choice.name.clone(), error)),
        }
    }
    Err(refused(refusals))
}

async fn first_that_runs(
    planned: Planned,
    backends: &[BackendChoice],
    info: &mut ModelInfo,
    watcher: &mut Watcher<'_>,
) -> Result<(Runnable, AdapterLoader)> {
    let Planned { demand, embedding, parts, config } = planned;
    let program = demand.program.clone();
    info.pooling = Some(embedding.pooling.as_str().to_owned());
    set_config(info, config);
    info.hidden_size = program.row_width();
    info.bytes_per_token = program.bytes_per_token();
    let mut refusals = Vec::new();
    for choice in backends {
        match open(choice, &demand, watcher).await {
            Ok(Opened { open, settled, session, weights }) => {
                set_sizes(info, &demand, &settled);
                set_backend(info, &choice.name, &open, &refusals);
                let Settled { limits, rows_beside_decoding, config, .. } = settled;
                let backend = open.backend;
                let open_session =
                    session_opener(backend.clone(), program.clone(), weights, config);
                let adapters = AdapterLoader { backend, program: program.clone(), parts };
                let runnable = Runnable {
                    session,
                    open_session,
                    program,
                    embedding,
                    limits,
                    rows_beside_decoding,
                };
                return Ok((runnable, adapters));
            }
            Err(Error::Aborted) => return Err(Error::Aborted),
            Err(error) => refusals.push((choice.name.clone(), error)),
        }
    }
    Err(refused(refusals))
}

/// The error of a model that no backend would have.
fn refused(mut refusals: Vec<(String, Error)>) -> Error {
    match refusals.len() {
        1 => refusals.remove(0).1,
        _ => Error::NoBackend { refusals },
    }
}

/// A backend that has the weights, and a session on it.
struct Opened {
    open: OpenBackend,
    settled: Settled,
    session: Box<dyn Session>,
    weights: Arc<[Uploaded]>,
}

/// Starts a backend, and when all sizes are settled gives it the weights and opens a session.
async fn open(
    choice: &BackendChoice,
    demand: &Demand,
    watcher: &mut Watcher<'_>,
) -> Result<Opened> {
    let open = (choice.open)()?;
    let settled = demand.settle(&*open.backend)?;
    let program = &demand.program;
    let total: usize = program.weights.iter().map(TensorData::n_bytes).sum();
    let mut done = 0;
    let mut weights: Vec<(WeightRef, Uploaded)> = Vec::with_capacity(program.weights.len());
    for together in program.weights_together() {
        let tensors: Vec<_> = together.iter().map(|weight| program.weight(*weight)).collect();
        done += tensors.iter().map(|tensor| tensor.n_bytes()).sum::<usize>();
        weights.extend(together.into_iter().zip(open.backend.upload_together(&tensors)?));
        watcher.report(0.05 + 0.9 * done as f32 / total.max(1) as f32).await?;
    }
    weights.sort_by_key(|(weight, _)| weight.0);
    let weights: Arc<[Uploaded]> = weights.into_iter().map(|(_, weight)| weight).collect();
    let config = settled.config.clone();
    let session = open.backend.session(program.clone(), weights.clone(), config)?;
    open.backend.settle().await?;
    Ok(Opened { open, settled, session, weights })
}

/// Opens further sessions of the same weights and sizes.
fn session_opener(
    backend: Arc<dyn Backend>,
    program: Arc<Program>,
    weights: Arc<[Uploaded]>,
    config: SessionConfig,
) -> OpenSession {
    Box::new(move || Ok(backend.session(program.clone(), weights.clone(), config.clone())?))
}

fn file_info(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<ModelInfo> {
    let metadata = gguf.metadata();
    let mut weight_types: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *weight_types.entry(tensor.ty().name().to_owned()).or_default() += tensor.n_bytes() as u64;
    }
    Ok(ModelInfo {
        file_bytes: gguf.file_bytes(),
        weight_bytes: weight_types.values().sum(),
        weight_types,
        tokenizer: metadata.require_str("tokenizer.ggml.model")?.to_owned(),
        bos_token: tokenizer.bos(),
        eos_token: tokenizer.eos(),
        end_of_generation_tokens: tokenizer.end_of_generation().to_vec(),
        chat_template: metadata
            .str("tokenizer.chat_template")?
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        ..ModelInfo::default()
    })
}

fn set_config(info: &mut ModelInfo, config: ModelConfig) {
    info.architecture = config.architecture;
    info.name = config.name;
    info.file_type = config.file_type;
    info.parameter_count = config.parameter_count;
    info.n_layers = config.n_layers;
    info.embedding_length = config.embedding_length;
    info.n_heads = config.n_heads;
    info.n_kv_heads = config.n_kv_heads;
    info.feed_forward_length = config.feed_forward_length;
    info.n_vocab = config.n_vocab;
    info.trained_context_length = config.trained_context_length;
}

fn set_sizes(info: &mut ModelInfo, demand: &Demand, settled: &Settled) {
    let Settled { config, memory, .. } = settled;
    info.context_length = demand.context_length;
    info.max_sequences = demand.max_sequences;
    info.kv_type = config.kv.ty.as_str().to_owned();
    info.kv_page_tokens = config.kv.page_tokens;
    info.kv_cache_bytes = memory.kv;
    info.layout = memory.layout.as_str().to_owned();
    info.packed_bytes = memory.copies;
    info.memory = *memory;
}

fn set_backend(info: &mut ModelInfo, name: &str, open: &OpenBackend, refusals: &[(String, Error)]) {
    let mut reason: String =
        refusals.iter().map(|(name, error)| format!("{name} refused: {error}; ")).collect();
    reason.push_str(name);
    reason.push_str(if refusals.is_empty() { " was the first choice" } else { " was next" });
    info.backend = name.to_owned();
    info.backend_reason = reason;
    info.threads = open.threads;
    info.device.clone_from(&open.device);
    let layout = info.memory.layout;
    let kernel = |ty: TensorType| Some((ty.name().to_owned(), (open.kernel)(ty, layout)?));
    info.kernels = TensorType::all()
        .filter(|ty| info.weight_types.contains_key(ty.name()))
        .filter_map(kernel)
        .collect();
}

/// A tokenizer as generating sees it.
pub struct ModelVocabulary(pub Arc<Tokenizer>);

impl Vocabulary for ModelVocabulary {
    fn end_of_generation_tokens(&self) -> &[u32] {
        self.0.end_of_generation()
    }

    fn suppressed_tokens(&self) -> &[u32] {
        self.0.suppressed()
    }

    fn text_stream(&self) -> Box<dyn TextStream> {
        Box::new(ModelTextStream(self.0.stream(DecodeOptions::default())))
    }
}

struct ModelTextStream(StreamDecoder);

impl TextStream for ModelTextStream {
    fn push(&mut self, token: u32) -> String {
        self.0.push(token)
    }

    fn finish(&mut self) -> String {
        self.0.finish()
    }
}
