//! The bundled model on the CPU, behind a backend that a test can disturb.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend, Watcher};
use realm_engine::model::{ModelHandle, RequestHandle, Source};
use realm_engine::requests::{Completion, Event};
use realm_engine::{Error, GenerateOptions, LoadOptions, Prompt};
use realm_gguf::TensorData;
use realm_ir::{
    Adapter, Backend, BackendLimits, BatchView, Error as IrError, MemoryPlan, Program, ReadFuture,
    Session, SessionConfig, Slot, Uploaded,
};

pub fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/realm-tiny-stories-Q8_0.gguf")
}

/// What a test does in the middle of each run of the session. After a panic the session is
/// dead: half of the run is done, and nothing works any more.
pub type Hook = Box<dyn FnMut(&Range<usize>, &BatchView<'_>) -> Result<(), IrError> + Send>;

/// Shared with the session of a [`Disturbed`] backend.
#[derive(Default)]
pub struct Disturbance {
    pub hook: Option<Hook>,
    /// Every read of the logits slot.
    pub logits: Vec<f32>,
    /// Sessions that were asked for.
    pub n_sessions: usize,
    /// Whether no further sessions can be opened.
    pub is_gone: bool,
    /// Rows of a batch, in place of those that suit the CPU.
    pub batch_rows: Option<usize>,
}

pub struct Disturbed {
    inner: CpuBackend,
    disturbance: Arc<Mutex<Disturbance>>,
}

impl Backend for Disturbed {
    fn name(&self) -> &'static str {
        "disturbed"
    }

    fn limits(&self) -> BackendLimits {
        let limits = self.inner.limits();
        let batch_rows = self.disturbance.lock().unwrap().batch_rows.unwrap_or(limits.batch_rows);
        BackendLimits { batch_rows, ..limits }
    }

    fn memory(&self, program: &Program, config: &SessionConfig) -> Result<MemoryPlan, IrError> {
        self.inner.memory(program, config)
    }

    fn upload(&self, tensor: &TensorData) -> Result<Uploaded, IrError> {
        self.inner.upload(tensor)
    }

    fn upload_adapter(&self, adapter: &Adapter) -> Result<Uploaded, IrError> {
        self.inner.upload_adapter(adapter)
    }

    fn open_session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>, IrError> {
        let logits = program.logits;
        let inner = self.inner.session(program, weights, config)?;
        let disturbance = self.disturbance.clone();
        self.disturbance.lock().unwrap().n_sessions += 1;
        if self.disturbance.lock().unwrap().is_gone {
            let reason = "it is gone".to_owned();
            return Err(IrError::Unavailable { backend: "disturbed", reason });
        }
        Ok(Box::new(DisturbedSession { inner, logits, disturbance, is_dead: false }))
    }
}

struct DisturbedSession {
    inner: Box<dyn Session>,
    logits: Slot,
    disturbance: Arc<Mutex<Disturbance>>,
    is_dead: bool,
}

impl Session for DisturbedSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<(), IrError> {
        if self.is_dead {
            let reason = "it broke down".to_owned();
            return Err(IrError::Unavailable { backend: "disturbed", reason });
        }
        let hook = self.disturbance.lock().expect("never held over a panic").hook.take();
        let Some(mut hook) = hook else { return self.inner.run(segments, batch) };
        let middle = segments.start.midpoint(segments.end);
        self.inner.run(segments.start..middle, batch)?;
        self.is_dead = true;
        hook(&segments, batch)?;
        self.is_dead = false;
        self.disturbance.lock().unwrap().hook.get_or_insert(hook);
        self.inner.run(middle..segments.end, batch)
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<(), IrError> {
        self.inner.write(slot, data)
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        Box::pin(async move {
            self.inner.read(slot, rows, &mut *out).await?;
            if slot == self.logits {
                self.disturbance.lock().unwrap().logits.extend_from_slice(out);
            }
            Ok(())
        })
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<(), IrError> {
        self.inner.copy_page(from, to)
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<(), IrError> {
        self.inner.copy_state(from, to)
    }
}

pub fn choice(disturbance: Arc<Mutex<Disturbance>>) -> BackendChoice {
    let open = move || {
        let inner = CpuBackend::new(CpuOptions { threads: Some(1), ..Default::default() })?;
        let backend = Disturbed { inner, disturbance: disturbance.clone() };
        let kernel = |_, _| Some("a kernel".to_owned());
        Ok(OpenBackend { backend: Arc::new(backend), threads: 1, device: String::new(), kernel })
    };
    BackendChoice { name: "cpu".into(), open: Box::new(open) }
}

pub fn load_with(options: &LoadOptions, backends: &[BackendChoice]) -> Result<ModelHandle, Error> {
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    ModelHandle::load(Source::Path(bundled()), options, backends, watcher)
}

/// The model in `bytes`, and the means to disturb it.
pub fn load_bytes(bytes: Vec<u8>, options: &LoadOptions) -> (ModelHandle, Arc<Mutex<Disturbance>>) {
    let disturbance = Arc::<Mutex<Disturbance>>::default();
    (load_disturbed(bytes, options, disturbance.clone()), disturbance)
}

/// The model in `bytes`, on a backend that is disturbed from the start.
pub fn load_disturbed(
    bytes: Vec<u8>,
    options: &LoadOptions,
    disturbance: Arc<Mutex<Disturbance>>,
) -> ModelHandle {
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    let source = Source::Bytes(vec![bytes.into()]);
    let model = ModelHandle::load(source, options, &[choice(disturbance)], watcher);
    model.expect("the model loads")
}

/// The bundled model, and the means to disturb it.
pub fn load() -> (ModelHandle, Arc<Mutex<Disturbance>>) {
    let disturbance = Arc::<Mutex<Disturbance>>::default();
    let model = load_with(&LoadOptions::default(), &[choice(disturbance.clone())]);
    (model.expect("the bundled model loads"), disturbance)
}

/// A generation whose events can be waited for.
pub struct Running {
    pub handle: RequestHandle,
    pub events: Receiver<Event>,
}

impl Running {
    pub fn next(&self) -> Event {
        match self.events.recv_timeout(Duration::from_secs(60)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => panic!("no event for a minute"),
            Err(RecvTimeoutError::Disconnected) => panic!("no end and no error"),
        }
    }

    pub fn end(&self) -> Result<Completion, Arc<Error>> {
        loop {
            match self.next() {
                Event::Chunk(_) => {}
                Event::End(completion) => return Ok(completion),
                Event::Error(error) => return Err(error),
            }
        }
    }
}

pub fn start(model: &ModelHandle, prompt: Prompt, options: GenerateOptions) -> Running {
    let (sender, events) = mpsc::channel();
    let sink = Box::new(move |event| sender.send(event).is_ok());
    Running { handle: model.generate(prompt, options, sink), events }
}

pub fn story() -> Prompt {
    Prompt::Text("Once upon a time".into())
}

/// Greedy, never ending by itself.
pub fn endless() -> GenerateOptions {
    GenerateOptions { ignore_eos: true, ..GenerateOptions::default() }
}
