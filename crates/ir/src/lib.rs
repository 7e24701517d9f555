//! The step boundary: what a model is to a backend, and what a backend is to
//! the engine.
//!
//! A model is a [`Program`]: segments of coarse [`Step`]s that read and write
//! [`Slot`]s. A [`Backend`] holds weights and opens sessions; a [`Session`]
//! prepares a program once and then runs ranges of its segments over a
//! [`BatchView`], which is all that varies from call to call.
//!
//! Segment 0 embeds, segments `1..=n` are the layers, segment `n + 1` is the
//! head. Generating runs `0..n + 2` in one call; the layer-level API runs one
//! segment between [`Session::write`] and [`Session::read`]. Both take the same
//! steps, the same kernels and the same KV cache.
//!
//! Activations are f32, row-major, one row per token of the batch.

mod adapter;
mod backend;
mod batch;
mod check;
mod config;
mod error;
mod limits;
mod memory;
mod operands;
mod program;
mod recurrent;
mod slots;
mod step;

pub use adapter::{Adapter, AdapterUse, LowRank};
pub use backend::{Backend, ReadFuture, Session, Top, TopFuture};
pub use batch::{BatchLimits, BatchView, SequenceView};
pub use config::{KvLayer, KvLayout, KvType, SessionConfig, StateLayout, WeightLayout};
pub use error::{Coded, Error, ErrorCode, Result};
pub use limits::BackendLimits;
pub use memory::{MemoryPlan, bytes_of};
pub use operands::{Activation, Slot, Uploaded, WeightRef};
pub use program::{Program, Rows, SlotInfo};
pub use recurrent::{Conv, DeltaNet, SelectiveScan};
pub use step::{
    Add, Attend, Embed, ExpertWeights, GatedAct, Gating, HeadLinear, HeadNorm, Linear,
    LinearOutput, Mix, Moe, Norm, NormKind, Rope, RopeSpec, RopeStore, RopeStyle, Sparsify, Step,
    TakeRows, Temperature,
};
