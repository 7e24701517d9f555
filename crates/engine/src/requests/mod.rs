//! What is asked of a model, and how far each request has come.
//!
//! - [`generation`]: a prompt that is continued.
//! - [`embedding`]: texts that become vectors.
//! - [`layers`]: single segments of the model.
//! - [`text`]: from tokens to the text of an answer.
//! - [`reply`]: answers that always come.
//!
//! All of them wait in one queue and are shared out by the same scheduler. A generation tells
//! what happens to it by [`Event`]s; the others answer once, through a [`Reply`].

mod embedding;
mod generation;
mod layers;
mod reply;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use embedding::{EmbedOptions, EmbeddingRequest};
pub use generation::{Allowance, Chunk, Completion, Event, FinishReason, GenerationRequest};
pub use layers::{LayerRequest, LayerWork};
pub use reply::Reply;
#[cfg(not(target_arch = "wasm32"))]
pub use reply::wait;
pub use text::{TextStream, Vocabulary};

pub(crate) use embedding::{Embedding, Pool};
pub(crate) use generation::{Generation, SpecialTokens};
pub(crate) use layers::{LayerCall, LayerSequence};
pub(crate) use reply::unanswered;
pub(crate) use text::Answer;

/// Names a request for as long as it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A request in the queue.
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) work: Work,
    /// Set by anybody at any time to end it within one step.
    pub(crate) abort: Arc<AtomicBool>,
    /// Has room for what it reads; otherwise it waits for some.
    pub(crate) is_admitted: bool,
    /// Has been answered, and leaves the queue at the end of the step.
    pub(crate) is_finished: bool,
    /// Whether it was admitted and had no row in the last batch.
    pub(crate) was_left_out: bool,
}

/// What a request is about.
pub(crate) enum Work {
    Generation(Box<Generation>),
    Embedding(Box<Embedding>),
    Layers(Box<LayerCall>),
}

impl Request {
    pub(crate) fn new(id: RequestId, abort: Arc<AtomicBool>, work: Work) -> Self {
        let (is_admitted, is_finished, was_left_out) = (false, false, false);
        Request { id, work, abort, is_admitted, is_finished, was_left_out }
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    /// Whether it waits for somebody to read what it has.
    pub(crate) fn is_paused(&self) -> bool {
        !self.is_aborted()
            && matches!(&self.work, Work::Generation(generation) if generation.is_paused())
    }

    pub(crate) fn is_layer_call(&self) -> bool {
        matches!(self.work, Work::Layers(_))
    }
}
