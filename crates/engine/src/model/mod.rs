//! A model as programs hold it: a handle, and a loop that drives its engine.
//!
//! Every call of a [`ModelHandle`] returns at once; results come through a [`Reply`] or a
//! [`Sink`], on the engine's thread. Dropping the handle ends what is running and frees the
//! model without waiting for it. Natively [`ModelHandle::load`] gives the [`EngineLoop`] a
//! thread; in a browser, [`ModelHandle::open`]'s caller makes it a task of the event loop.

mod adapters;
mod cause;
mod engine_loop;
mod preparer;
mod requests;
mod sequences;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(target_arch = "wasm32"))]
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use futures_channel::mpsc::{self, UnboundedSender};
use realm_gguf::Gguf;
use realm_tokenizer::{DecodeOptions, EncodeOptions};
use web_time::Instant;

pub use crate::requests::Reply;
use crate::requests::Vocabulary;
#[cfg(not(target_arch = "wasm32"))]
pub use crate::requests::wait;
pub use engine_loop::{EngineLoop, Sink};
pub use requests::RequestHandle;

use crate::chat::{ChatArguments, TIME_WHILE_WAITING};
use crate::engine::{Engine, EngineParts};
use crate::error::{Error, Result};
use crate::info::ModelInfo;
use crate::load::{self, BackendChoice, ModelVocabulary, NoVocabulary, Pause, Runnable, Watcher};
use crate::loaded::Loaded;
use crate::options::LoadOptions;
use crate::tensor::{Tensor, read_tensor};
use engine_loop::{Command, no_weights};

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, or any part of a split one: mapped.
    #[cfg(not(target_arch = "wasm32"))]
    Path(PathBuf),
    /// A file in memory, or all parts of a split one in order.
    Bytes(Vec<Arc<[u8]>>),
}

impl Source {
    fn open(self) -> Result<Gguf> {
        Ok(match self {
            #[cfg(not(target_arch = "wasm32"))]
            Source::Path(path) => Gguf::open(path)?,
            Source::Bytes(mut parts) if parts.len() == 1 => Gguf::from_bytes(parts.remove(0))?,
            Source::Bytes(parts) => Gguf::from_parts(parts)?,
        })
    }
}

/// A loaded model. Can be used from any thread.
pub struct ModelHandle {
    /// None once it was disposed of.
    loaded: Mutex<Option<Arc<Loaded>>>,
    commands: UnboundedSender<Command>,
    /// Set when everything is to end.
    stop: Arc<AtomicBool>,
    /// Flags of requests that may still run.
    aborts: Mutex<Vec<Weak<AtomicBool>>>,
    sequences: Mutex<Ids>,
    adapters: Arc<Mutex<Ids>>,
    next_request: AtomicU64,
}

/// Kept sequences or adapters as programs know them.
#[derive(Default)]
struct Ids {
    open: BTreeSet<u32>,
    next: u32,
}

/// A lock whose data is whole whatever happened to its last holder.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the first call.
fn now_ms() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

impl ModelHandle {
    /// Opens `source`, gives its weights to the first of `backends` that can run
    /// it, and starts a thread for the engine. Takes as long as that takes: call it on
    /// a thread that may be blocked.
    ///
    /// # Errors
    /// What is wrong with the file, what each backend had against it, `ABORTED`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        source: Source,
        options: &LoadOptions,
        backends: &[BackendChoice],
        watcher: Watcher<'_>,
    ) -> Result<ModelHandle> {
        let open = async { ModelHandle::open(source.open()?, options, backends, watcher).await };
        let (model, engine_loop) = pollster::block_on(open)?;
        spawn("realm-engine", move || pollster::block_on(engine_loop.run()))?;
        Ok(model)
    }

    /// What [`ModelHandle::load`] would take of memory, by the header of `source`: see
    /// [`load::estimate`].
    ///
    /// # Errors
    /// As [`ModelHandle::load`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn estimate(
        source: Source,
        options: &LoadOptions,
        backends: &[BackendChoice],
    ) -> Result<crate::info::MemoryEstimate> {
        load::estimate(&source.open()?, options, backends)
    }

    /// Gives the weights of `gguf` to the first of `backends` that can run it; the caller
    /// has to drive the loop.
    ///
    /// # Errors
    /// What is wrong with the file, what each backend had against it, `ABORTED`.
    pub async fn open(
        gguf: Gguf,
        options: &LoadOptions,
        backends: &[BackendChoice],
        mut watcher: Watcher<'_>,
    ) -> Result<(ModelHandle, EngineLoop)> {
        let started = Instant::now();
        let (mut loaded, runnable) = load::load(gguf, options, backends, &mut watcher).await?;
        loaded.info.load_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(ModelHandle::new(loaded, runnable, watcher.pause))
    }

    fn new(
        loaded: Loaded,
        runnable: Option<Runnable>,
        pause: Option<Pause>,
    ) -> (ModelHandle, EngineLoop) {
        let stop = Arc::new(AtomicBool::new(false));
        let engine = runnable.map(|runnable| {
            let rows_beside_decoding = runnable.rows_beside_decoding;
            let Runnable { session, open_session, program, embedding, limits, .. } = runnable;
            Engine::new(EngineParts {
                session,
                open_session,
                program,
                embedding,
                vocabulary: vocabulary(&loaded),
                limits,
                rows_beside_decoding,
                stop: stop.clone(),
                clock: now_ms,
            })
        });
        let (commands, receiver) = mpsc::unbounded();
        let loaded = Arc::new(loaded);
        let engine_loop =
            EngineLoop::new(engine, loaded.clone(), receiver, commands.clone(), pause);
        let model = ModelHandle {
            loaded: Mutex::new(Some(loaded)),
            commands,
            stop,
            aborts: Mutex::default(),
            sequences: Mutex::default(),
            adapters: Arc::default(),
            next_request: AtomicU64::new(0),
        };
        (model, engine_loop)
    }

    fn loaded(&self) -> Result<Arc<Loaded>> {
        lock(&self.loaded).clone().ok_or(Error::Disposed)
    }

    /// Facts about the model.
    ///
    /// # Errors
    /// `DISPOSED`.
    pub fn info(&self) -> Result<ModelInfo> {
        Ok(self.loaded()?.info.clone())
    }

    /// Token ids of `text`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` without a vocabulary, `DISPOSED`.
    pub fn tokenize(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        Ok(self.loaded()?.text()?.tokenizer.encode(text, options))
    }

    /// The text of `ids`, with U+FFFD for bytes that are no UTF-8. Ids that are not
    /// in the vocabulary have no text.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` without a vocabulary, `DISPOSED`.
    pub fn detokenize(&self, ids: &[u32], special: bool) -> Result<String> {
        let bytes = self.loaded()?.text()?.tokenizer.decode(ids, DecodeOptions { special });
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Renders a chat template: `template` (the name of a built-in one, or Jinja),
    /// else the one the model was loaded with, else the file's own (with tools the
    /// one named `tool_use`, if there is one), else the built-in one that fits the
    /// vocabulary. It may take [`TIME_WHILE_WAITING`]; [`Prompt::Chat`] has more.
    ///
    /// # Errors
    /// `TEMPLATE_ERROR` when there is none, it fails or takes too long,
    /// `INVALID_ARGUMENT` for bad JSON or without a vocabulary, `DISPOSED`.
    pub fn apply_chat_template(
        &self,
        template: Option<&str>,
        arguments: &ChatArguments,
    ) -> Result<String> {
        self.loaded()?.text()?.templates.render(template, arguments, TIME_WHILE_WAITING)
    }

    /// A command that cannot be sent is dropped, and answers that the model is gone.
    fn send(&self, command: Command) {
        drop(self.commands.unbounded_send(command));
    }

    /// Does something to the engine between two steps, for a caller that does not wait. What can
    /// go wrong was looked at before; the rest shows in the calls that follow.
    fn tell(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Engine) -> Result<()> + Send + 'static,
    ) {
        let reply = Reply::new(move |result| match result {
            Ok(()) | Err(Error::Disposed) => {}
            Err(error) => tracing::error!("cannot {what}: {error}"),
        });
        call(&self.commands, reply, work);
    }

    /// The values of a tensor, on a thread of its own.
    pub fn tensor(&self, name: String, reply: Reply<Tensor>) {
        let loaded = match self.loaded() {
            Ok(loaded) => loaded,
            Err(error) => return reply.send(Err(error)),
        };
        // A thread that cannot be started drops the reply; what it says then is
        // not the reason, but it answers.
        drop(spawn("realm-tensor", move || {
            let result = catch_unwind(AssertUnwindSafe(|| read_tensor(&loaded.gguf, &name)));
            reply.send(result.unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref()))));
        }));
    }

    /// Names of all tensors, in file order.
    ///
    /// # Errors
    /// `DISPOSED`.
    pub fn tensor_names(&self) -> Result<Vec<String>> {
        Ok(self.loaded()?.gguf.tensors().iter().map(|t| t.name().to_owned()).collect())
    }

    /// Bytes of each of the model's files that a load with `vocab_only` reads.
    ///
    /// # Errors
    /// `DISPOSED`.
    pub fn header_bytes(&self) -> Result<Vec<u64>> {
        Ok(self.loaded()?.gguf.header_bytes().to_vec())
    }

    /// Ends what is running with `DISPOSED`, frees the model, then answers. Any
    /// number of calls.
    pub fn dispose(&self, done: impl FnOnce() + Send + 'static) {
        let loaded = lock(&self.loaded).take();
        // In this order: whoever sees its own flag sees that everything is to end.
        self.stop.store(true, Ordering::Release);
        for abort in lock(&self.aborts).drain(..).filter_map(|flag| flag.upgrade()) {
            abort.store(true, Ordering::Release);
        }
        // The engine thread lets go of the file last, so that unmapping it never
        // happens here.
        self.send(Command::Stop(Reply::new(move |_| {
            drop(loaded);
            done();
        })));
    }
}

impl Drop for ModelHandle {
    fn drop(&mut self) {
        self.dispose(|| ());
    }
}

impl Ids {
    fn add(&mut self) -> u32 {
        let id = self.next;
        self.next += 1;
        self.open.insert(id);
        id
    }

    fn check(&self, what: &str, id: u32) -> Result<()> {
        match self.open.contains(&id) {
            true => Ok(()),
            false => Err(Error::invalid(format!("{what} {id} is not open"))),
        }
    }
}

/// The tokens of a model as generating sees them.
fn vocabulary(loaded: &Loaded) -> Arc<dyn Vocabulary> {
    match &loaded.text {
        Some(text) => Arc::new(ModelVocabulary(text.tokenizer.clone())),
        None => Arc::new(NoVocabulary),
    }
}

/// Has `work` done between two steps.
fn call<T: 'static>(
    commands: &UnboundedSender<Command>,
    reply: Reply<T>,
    work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
) {
    let call: engine_loop::Call = Box::new(move |engine| {
        reply.send(match engine {
            Some(engine) => work(engine),
            None => Err(no_weights()),
        });
    });
    // A command that cannot be sent is dropped, and answers that the model is gone.
    drop(commands.unbounded_send(Command::Call(call)));
}

/// Does `work` on a thread of its own.
#[cfg(not(target_arch = "wasm32"))]
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    match std::thread::Builder::new().name(name.into()).spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Error::OutOfMemory { message: format!("cannot start the thread {name}: {error}") })
        }
    }
}

/// Does `work` at once, where there are no threads.
#[cfg(target_arch = "wasm32")]
fn spawn(_name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    work();
    Ok(())
}
