//! The two traits every executor implements.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use realm_gguf::TensorData;

use crate::adapter::Adapter;
use crate::batch::BatchView;
use crate::config::SessionConfig;
use crate::error::{Error, Result};
use crate::limits::BackendLimits;
use crate::memory::MemoryPlan;
use crate::operands::{Slot, Uploaded};
use crate::program::Program;

/// The future of [`Session::read`] and [`Backend::settle`].
pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One of the largest values of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Top {
    /// Where it is.
    pub column: u32,
    /// The value.
    pub value: f32,
}

/// The future of [`Session::read_top`].
pub type TopFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<Vec<Top>>>> + 'a>>;

/// A way to run steps: the CPU, a GPU API, the oracle of the tests.
pub trait Backend: Send + Sync {
    /// Name in options, reports and errors.
    fn name(&self) -> &'static str;

    /// The sizes that suit it, and what it cannot do.
    fn limits(&self) -> BackendLimits;

    /// What `program`, which has been checked for `config`, is going to take in a session of these
    /// sizes, and the layout that [`crate::WeightLayout::Auto`] is decided to be. Nothing is
    /// uploaded and no weight is read.
    ///
    /// # Errors
    /// `Unsupported…` when a weight cannot be kept or something is larger than it may be.
    fn memory(&self, program: &Program, config: &SessionConfig) -> Result<MemoryPlan>;

    /// Makes a weight usable: may keep the file's own bytes, copy or repack them.
    ///
    /// # Errors
    /// `UnsupportedType` when no step can read it, `OutOfMemory`.
    fn upload(&self, tensor: &TensorData) -> Result<Uploaded>;

    /// [`Backend::upload`] for matrices that one step multiplies with the same input: a backend
    /// may keep them so that it can do so at once.
    ///
    /// # Errors
    /// Those of [`Backend::upload`].
    fn upload_together(&self, tensors: &[&TensorData]) -> Result<Vec<Uploaded>> {
        tensors.iter().map(|tensor| self.upload(tensor)).collect()
    }

    /// Waits until everything asked for so far is known to be there: some devices tell
    /// late that memory ran out.
    ///
    /// # Errors
    /// `OutOfMemory` naming the first that is not.
    fn settle(&self) -> ReadFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Makes an adapter of a program's weights usable by the program's sessions.
    ///
    /// # Errors
    /// `Unsupported` by backends that cannot run adapters, `UnsupportedType`, `OutOfMemory`.
    fn upload_adapter(&self, _adapter: &Adapter) -> Result<Uploaded> {
        Err(Error::Unsupported { what: "a LoRA adapter".to_owned(), backend: self.name() })
    }

    /// Opens a session with its own KV cache and scratch memory and prepares
    /// `program` for it: plans threads, makes pipelines, allocates slots.
    /// `weights[i]` is what [`Backend::upload`] made of `program.weights[i]`;
    /// sessions share them.
    ///
    /// The program is checked first, so that backends need not: they implement
    /// [`Backend::open_session`], and nobody else calls that.
    ///
    /// # Errors
    /// Those of [`Program::check`]; `Unsupported…` when a step cannot be run, `OutOfMemory`.
    fn session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>> {
        program.check(&config)?;
        if weights.len() != program.weights.len() {
            let (expected, found) = (program.weights.len(), weights.len());
            return Err(Error::ShapeMismatch { what: "uploaded weights".into(), expected, found });
        }
        self.open_session(program, weights, config)
    }

    /// What [`Backend::session`] does with a program that has been checked for `config`, and
    /// with as many weights as it has.
    ///
    /// # Errors
    /// `Unsupported…` when a step cannot be run, `OutOfMemory`.
    fn open_session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>>;
}

/// One program ready to run, with its KV cache. Owned by one thread at a time.
///
/// A session in which a run panicked is lost: every later call of it that runs, writes,
/// reads or copies is refused as `SessionLost`. The weights, the backend and its other sessions go on, and a
/// new session of the same program can be opened.
pub trait Session: Send {
    /// Runs the steps of `segments` in order over `batch`.
    ///
    /// # Errors
    /// `InvalidBatch` before anything ran; `Interrupted` between two steps, after
    /// which slots and the KV pages that the batch writes to are unspecified.
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()>;

    /// Sets the first rows of a slot to `data`, `[rows, width]`.
    ///
    /// # Errors
    /// `ShapeMismatch` when `data` is not whole rows or more than the slot holds.
    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<()>;

    /// Copies `rows` of a slot to `out`, `[rows, width]`. The only thing to wait
    /// for, since a browser cannot block on its GPU.
    ///
    /// # Errors
    /// `ShapeMismatch` when `out` is not `rows * width` long or rows are out of range.
    fn read<'a>(&'a mut self, slot: Slot, rows: Range<usize>, out: &'a mut [f32])
    -> ReadFuture<'a>;

    /// The `k` largest values of each of the first `n_rows` rows of a slot, best first and
    /// of equals the lower column first; fewer where a row is not that wide. NaN counts as
    /// larger than all other values. `None` from backends that have no better way than
    /// [`Session::read`].
    ///
    /// # Errors
    /// `ShapeMismatch` when rows are out of range.
    fn read_top<'a>(&'a mut self, _slot: Slot, _n_rows: usize, _k: usize) -> Option<TopFuture<'a>> {
        None
    }

    /// Copies the keys and values of all layers from one page to another.
    ///
    /// # Errors
    /// `InvalidBatch` when a page is out of range.
    fn copy_page(&mut self, from: u32, to: u32) -> Result<()>;

    /// Copies a sequence's recurrent state of all layers.
    ///
    /// # Errors
    /// `InvalidBatch` when a state is out of range.
    fn copy_state(&mut self, from: u32, to: u32) -> Result<()>;
}
