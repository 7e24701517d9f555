//! From an opened file to everything that generating needs.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use realm_gguf::{Gguf, TensorData, TensorType};
use realm_ir::{
    Backend, Program, Session, SessionConfig, StateLayout, Uploaded, WeightLayout, WeightRef,
};
use realm_model::{EmbeddingPlan, ModelConfig, ModelPlan};
use realm_tokenizer::{DecodeOptions, StreamDecoder, Tokenizer};

use crate::adapter::AdapterLoader;
use crate::budget::Budget;
use crate::chat::Templates;
use crate::engine::Limits;
use crate::error::{Error, Result};
use crate::info::ModelInfo;
use crate::kv_plan::{self as kv, KvPlan};
use crate::loaded::Loaded;
use crate::options::LoadOptions;
use crate::requests::{TextStream, Vocabulary};
use crate::runner::OpenSession;

/// Most rows of a batch: enough to keep matrix products busy, few enough that a
/// step is short.
const MAX_ROWS: usize = 256;

/// Most generations in a batch.
const MAX_OUTPUTS: usize = 32;

/// Recurrent states of a model that has them: sequences that can be under way or
/// kept at the same time. A state takes memory when it is first used.
const N_STATES: usize = 64;

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
    let chosen = options.chat_template.as_deref();
    let templates = Templates::new(gguf.clone(), tokenizer.clone(), chosen)?;
    info.chat_template_origin = templates.origin();
    if options.vocab_only {
        set_config(&mut info, realm_model::vocabulary_only(&gguf)?);
        watcher.report(1.0).await?;
        return Ok((Loaded { info, gguf, tokenizer, templates, adapters: None }, None));
    }
    let architecture = gguf.metadata().require_str("general.architecture")?;
    let trained = gguf.metadata().u32(&format!("{architecture}.context_length"))?;
    let context_length = kv::context_length(options, trained.map(|n| n as usize))?;
    let plan = realm_model::build(&gguf, context_length)?;
    let n_tokens = tokenizer.n_tokens();
    if n_tokens > plan.config.n_vocab {
        return Err(Error::from(Box::new(realm_model::Error::Invalid {
            what: "tokenizer.ggml.tokens".into(),
            found: format!("{n_tokens} tokens"),
            expected: format!("at most {}, the rows of token_embd.weight", plan.config.n_vocab),
        })));
    }
    let trained = plan.config.trained_context_length;
    if plan.embedding.is_encoder && context_length > trained {
        return Err(Error::invalid(format!(
            "contextLength is {context_length}, this encoder knows {trained} positions"
        )));
    }
    let options = match plan.embedding.is_encoder {
        true => &kv::exact(options),
        false => options,
    };
    let kv = kv::plan(options, context_length, plan.kv_layers.clone())?;
    let budget = Budget::new(options.memory_limit, info.weight_bytes, kv.bytes as u64)?;
    let (runnable, adapters) =
        first_that_runs(plan, &kv, (options.layout, budget), backends, &mut info, watcher).await?;
    watcher.report(1.0).await?;
    Ok((Loaded { info, gguf, tokenizer, templates, adapters: Some(adapters) }, Some(runnable)))
}

async fn first_that_runs(
    plan: ModelPlan,
    kv: &KvPlan,
    (layout, budget): (WeightLayout, Budget),
    backends: &[BackendChoice],
    info: &mut ModelInfo,
    watcher: &mut Watcher<'_>,
) -> Result<(Runnable, AdapterLoader)> {
    let limits = limits(&plan, kv);
    info.pooling = Some(plan.embedding.pooling.as_str().to_owned());
    set_config(info, plan.config);
    info.hidden_size = plan.program.row_width();
    info.bytes_per_token = plan.program.bytes_per_token();
    set_kv(info, kv);
    let config = SessionConfig {
        kv: kv.layout.clone(),
        states: StateLayout { widths: plan.state_widths, n_states: limits.n_states },
        max_rows: limits.max_rows,
        max_outputs: limits.max_outputs,
        layout,
    };
    // What is wrong with the file is no backend's refusal, and nothing is uploaded for it.
    plan.program.check(&config)?;
    let (program, embedding, parts) = (Arc::new(plan.program), plan.embedding, plan.parts);
    let mut refusals = Vec::new();
    for choice in backends {
        match open(choice, &program, &config, budget, watcher).await {
            Ok((open, session, weights)) => {
                let (layout, packed_bytes) = session.layout();
                info.layout = layout.as_str().to_owned();
                info.packed_bytes = packed_bytes;
                set_backend(info, &choice.name, &open, layout, &refusals);
                let backend = open.backend;
                let config = SessionConfig { layout, ..config };
                let open_session =
                    session_opener(backend.clone(), program.clone(), weights, config);
                let adapters = AdapterLoader { backend, program: program.clone(), parts };
                let runnable = Runnable { session, open_session, program, embedding, limits };
                return Ok((runnable, adapters));
            }
            Err(Error::Aborted) => return Err(Error::Aborted),
            Err(error) => refusals.push((choice.name.clone(), error)),
        }
    }
    match refusals.len() {
        1 => Err(refusals.remove(0).1),
        _ => Err(Error::NoBackend { refusals }),
    }
}

/// Sizes of the session. An encoder reads a text in one batch, and all its rows are
/// wanted, which costs little without a vocabulary to multiply them with.
fn limits(plan: &ModelPlan, kv: &KvPlan) -> Limits {
    let (max_rows, max_outputs) = match plan.embedding.is_encoder {
        true => (MAX_ROWS.max(kv.context_length), MAX_ROWS),
        false => (MAX_ROWS, MAX_OUTPUTS),
    };
    Limits {
        context_length: kv.context_length,
        page_tokens: kv.layout.page_tokens,
        n_pages: kv.layout.n_pages,
        max_rows,
        max_outputs,
        n_vocab: plan.config.n_vocab,
        n_states: if plan.state_widths.is_empty() { 0 } else { N_STATES },
    }
}

/// Starts a backend, gives it the weights and opens a session.
async fn open(
    choice: &BackendChoice,
    program: &Arc<Program>,
    config: &SessionConfig,
    budget: Budget,
    watcher: &mut Watcher<'_>,
) -> Result<(OpenBackend, Box<dyn Session>, Arc<[Uploaded]>)> {
    let open = (choice.open)()?;
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
    let session = session(&*open.backend, program, weights.clone(), config, budget)?;
    open.backend.settle().await?;
    Ok((open, session, weights))
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

/// Opens a session whose copies of the weights find room; without copies where they need
/// not be made.
fn session(
    backend: &dyn Backend,
    program: &Arc<Program>,
    weights: Arc<[Uploaded]>,
    config: &SessionConfig,
    budget: Budget,
) -> Result<Box<dyn Session>> {
    let session = backend.session(program.clone(), weights.clone(), config.clone())?;
    let (_, copied_bytes) = session.layout();
    match budget.require(copied_bytes) {
        Ok(()) => Ok(session),
        Err(error) if config.layout != WeightLayout::Auto => Err(error),
        Err(_) => {
            drop(session);
            let config = SessionConfig { layout: WeightLayout::Mapped, ..config.clone() };
            Ok(backend.session(program.clone(), weights, config)?)
        }
    }
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
        chat_template: metadata.str("tokenizer.chat_template")?.map(str::to_owned),
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

fn set_kv(info: &mut ModelInfo, kv: &KvPlan) {
    info.context_length = kv.context_length;
    info.max_sequences = kv.max_sequences;
    info.kv_type = kv.layout.ty.as_str().to_owned();
    info.kv_page_tokens = kv.layout.page_tokens;
    info.kv_cache_bytes = kv.bytes;
}

fn set_backend(
    info: &mut ModelInfo,
    name: &str,
    open: &OpenBackend,
    layout: WeightLayout,
    refusals: &[(String, Error)],
) {
    let mut reason: String =
        refusals.iter().map(|(name, error)| format!("{name} refused: {error}; ")).collect();
    reason.push_str(name);
    reason.push_str(if refusals.is_empty() { " was the first choice" } else { " was next" });
    info.backend = name.to_owned();
    info.backend_reason = reason;
    info.threads = open.threads;
    info.device.clone_from(&open.device);
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
