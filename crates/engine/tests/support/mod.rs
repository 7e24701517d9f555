//! The bundled model on the CPU, behind a backend that a test can disturb.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::core::{Completion, Event};
use realm_engine::load::{BackendChoice, OpenBackend, Watcher};
use realm_engine::model::{GenerationHandle, Model, Source};
use realm_engine::{Error, GenerateOptions, LoadOptions, Prompt};
use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Adapter, Backend, BackendLimits, BatchView, Error as IrError, MemoryPlan, Program, ReadFuture,
    Session, SessionConfig, Slot, StepKind, Uploaded,
};

pub fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/realm-tiny-stories-Q8_0.gguf")
}

/// What a test does before each run of the session.
pub type Hook = Box<dyn FnMut(&Range<usize>, &BatchView<'_>) -> Result<(), IrError> + Send>;

/// Shared with the session of a [`Disturbed`] backend.
#[derive(Default)]
pub struct Disturbance {
    pub hook: Option<Hook>,
    /// Every read of the logits slot.
    pub logits: Vec<f32>,
}

pub struct Disturbed {
    inner: CpuBackend,
    disturbance: Arc<Mutex<Disturbance>>,
}

impl Backend for Disturbed {
    fn name(&self) -> &'static str {
        "disturbed"
    }

    fn supports(&self, step: StepKind, ty: TensorType) -> bool {
        self.inner.supports(step, ty)
    }

    fn limits(&self) -> BackendLimits {
        self.inner.limits()
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

    fn session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>, IrError> {
        let logits = program.logits;
        let inner = self.inner.session(program, weights, config)?;
        let disturbance = self.disturbance.clone();
        Ok(Box::new(DisturbedSession { inner, logits, disturbance }))
    }
}

struct DisturbedSession {
    inner: Box<dyn Session>,
    logits: Slot,
    disturbance: Arc<Mutex<Disturbance>>,
}

impl Session for DisturbedSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<(), IrError> {
        let hook = self.disturbance.lock().expect("never held over a panic").hook.take();
        if let Some(mut hook) = hook {
            hook(&segments, batch)?;
            self.disturbance.lock().unwrap().hook.get_or_insert(hook);
        }
        self.inner.run(segments, batch)
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
        let inner = CpuBackend::new(CpuOptions { threads: Some(1) })?;
        let backend = Disturbed { inner, disturbance: disturbance.clone() };
        let kernel = |_, _| Some("a kernel".to_owned());
        Ok(OpenBackend { backend: Arc::new(backend), threads: 1, device: String::new(), kernel })
    };
    BackendChoice { name: "cpu".into(), open: Box::new(open) }
}

pub fn load_with(options: &LoadOptions, backends: &[BackendChoice]) -> Result<Model, Error> {
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    Model::load(Source::Path(bundled()), options, backends, watcher)
}

/// The bundled model, and the means to disturb it.
pub fn load() -> (Model, Arc<Mutex<Disturbance>>) {
    let disturbance = Arc::<Mutex<Disturbance>>::default();
    let model = load_with(&LoadOptions::default(), &[choice(disturbance.clone())]);
    (model.expect("the bundled model loads"), disturbance)
}

/// A generation whose events can be waited for.
pub struct Running {
    pub handle: GenerationHandle,
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

pub fn start(model: &Model, prompt: Prompt, options: GenerateOptions) -> Running {
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
