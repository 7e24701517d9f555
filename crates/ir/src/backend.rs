//! The two traits every executor implements.

use std::any::Any;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};

use crate::adapter::Adapter;
use crate::batch::BatchView;
use crate::error::{Error, Result};
use crate::limits::BackendLimits;
use crate::memory::{MemoryPlan, bytes_of};
use crate::program::{Program, Slot};
use crate::step::StepKind;

/// A weight as a backend keeps it: mapped bytes, a repacked copy, a device buffer.
pub type Uploaded = Arc<dyn Any + Send + Sync>;

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

/// Storage of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Four bytes per value: the reference.
    F32,
    /// Two bytes per value; moves logits by up to 0.1.
    F16,
    /// int8 with one f16 scale per [`KvType::BLOCK_LEN`] values of a head, as GGUF's Q8_0;
    /// a quarter of f32.
    Q8_0,
}

impl KvType {
    /// Values of a head that share a scale, the last ones fewer; where there are scales.
    pub const BLOCK_LEN: usize = 32;

    /// Bytes of one value, its share of a scale not counted.
    pub fn bytes(self) -> usize {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::Q8_0 => 1,
        }
    }

    /// Bytes of `width` values of a head with their scales; `None` on overflow.
    pub fn bytes_of(self, width: usize) -> Option<usize> {
        let scales = match self {
            KvType::F32 | KvType::F16 => 0,
            KvType::Q8_0 => 2 * width.div_ceil(Self::BLOCK_LEN),
        };
        width.checked_mul(self.bytes())?.checked_add(scales)
    }

    /// Name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }
}

/// What one layer keeps per position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayer {
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per key head.
    pub key_width: usize,
    /// Values per value head.
    pub value_width: usize,
}

impl KvLayer {
    /// Bytes per position, keys and values together; `None` on overflow.
    pub fn bytes(&self, ty: KvType) -> Option<usize> {
        let head = ty.bytes_of(self.key_width)?.checked_add(ty.bytes_of(self.value_width)?)?;
        self.n_kv_heads.checked_mul(head)
    }

    /// Values per position, keys and values together.
    pub fn width(&self) -> usize {
        self.n_kv_heads * (self.key_width + self.value_width)
    }
}

/// Shape of a paged KV cache. A page holds `page_tokens` positions of all layers.
#[derive(Clone, Debug)]
pub struct KvLayout {
    /// One entry per layer that attends.
    pub layers: Vec<KvLayer>,
    /// Positions per page.
    pub page_tokens: usize,
    /// Pages in the cache.
    pub n_pages: usize,
    /// Storage of the values.
    pub ty: KvType,
}

impl KvLayout {
    /// Bytes of one page over all layers.
    pub fn page_bytes(&self) -> usize {
        let bytes = self.layers.iter().map(|layer| layer.bytes(self.ty).expect("fits in memory"));
        bytes.sum::<usize>() * self.page_tokens
    }
}

/// Shape of the recurrent states: one per sequence, f32.
#[derive(Clone, Debug, Default)]
pub struct StateLayout {
    /// Values of each recurrent step, in the order of their numbers.
    pub widths: Vec<usize>,
    /// States there are.
    pub n_states: usize,
}

impl StateLayout {
    /// Bytes of all states.
    pub fn bytes(&self) -> u64 {
        let state = self.widths.iter().map(|width| bytes_of(*width, 4));
        let state = state.fold(0, u64::saturating_add);
        state.saturating_mul(self.n_states as u64)
    }
}

/// How a backend keeps matrices that it can read in more than one layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// Packed where the copy finds room in memory, mapped otherwise.
    #[default]
    Auto,
    /// As the file has them: shared by all who map it, nothing copied.
    Mapped,
    /// A copy in the order in which the kernels read.
    Packed,
}

impl WeightLayout {
    /// Name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            WeightLayout::Auto => "auto",
            WeightLayout::Mapped => "mapped",
            WeightLayout::Packed => "packed",
        }
    }
}

/// What a session is opened for.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The KV cache.
    pub kv: KvLayout,
    /// The recurrent states.
    pub states: StateLayout,
    /// Most rows of one batch.
    pub max_rows: usize,
    /// Most output rows of one batch.
    pub max_outputs: usize,
    /// Layout of the matrices, for backends that have a choice. [`Backend::memory`] decides what
    /// [`WeightLayout::Auto`] is; a session takes it for [`WeightLayout::Mapped`].
    pub layout: WeightLayout,
}

/// A way to run steps: the CPU, a GPU API, the oracle of the tests.
pub trait Backend: Send + Sync {
    /// Name in options, reports and errors.
    fn name(&self) -> &'static str;

    /// Whether `step` can read a weight stored as `ty`; for steps without a
    /// large weight, `ty` is F32.
    fn supports(&self, step: StepKind, ty: TensorType) -> bool;

    /// The sizes that suit it, and what it cannot do.
    fn limits(&self) -> BackendLimits;

    /// What `program` is going to take in a session of these sizes, and the layout that
    /// [`WeightLayout::Auto`] is decided to be. Nothing is uploaded and no weight is read.
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
    /// As above.
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
    /// # Errors
    /// `Unsupported…` when a step cannot be run, `OutOfMemory`.
    fn session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>>;
}

/// One program ready to run, with its KV cache. Owned by one thread at a time.
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
