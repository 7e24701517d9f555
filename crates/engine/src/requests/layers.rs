//! Single segments of a model: tokens looked up, one layer, the head.
//!
//! A call is run in parts, each a batch of its own between the batches of the others, so that a
//! long one does not hold them up. Calls run one after another in the order in which they came,
//! since a layer goes on where the last call left its sequence.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Reply;
use crate::adapter::Adapters;
use crate::error::{Error, Result};
use crate::kv::Storage;

/// Freeing so many bytes takes a millisecond or more.
#[cfg(not(target_arch = "wasm32"))]
const LARGE_BYTES: usize = 16 << 20;

/// What a segment is run over.
#[derive(Clone, Debug)]
pub enum LayerWork {
    /// Looks up token ids: `[tokens, hidden size]`.
    EmbedTokens {
        /// What is looked up.
        tokens: Vec<u32>,
        /// Position of the first of them, which counts where a model learned positions.
        position: usize,
    },
    /// Runs a layer, and keeps the keys and values of its rows: `[rows, hidden size]`.
    Forward {
        /// Which one.
        layer: usize,
        /// `[rows, hidden size]`: what the embedding or the layer before gave.
        hidden: Vec<f32>,
        /// Position of the first row.
        position: usize,
        /// Whose keys and values; any number of the program's own choice.
        sequence: u32,
    },
    /// Runs the head over `[rows, hidden size]`: `[rows, vocabulary]`.
    ComputeLogits(Vec<f32>),
    /// Frees the keys and values of a sequence of `Forward`; nothing comes out.
    Drop {
        /// Which one. It need not be there.
        sequence: u32,
    },
}

/// A segment that is to be run.
#[derive(Clone, Debug)]
pub struct LayerRequest {
    /// Which one, over what.
    pub work: LayerWork,
    /// Set by anybody at any time to end it with `ABORTED` within one step.
    pub abort: Arc<AtomicBool>,
}

/// A sequence that a program extends layer by layer.
#[derive(Debug)]
pub(crate) struct LayerSequence {
    pub(crate) storage: Storage,
    /// Positions that each layer holds.
    pub(crate) lengths: Vec<usize>,
}

/// A request with its state.
pub(crate) struct LayerCall {
    pub(crate) work: LayerWork,
    /// The default at the time of the call.
    pub(crate) adapters: Adapters,
    /// Whether it was found sound, and its turn has come.
    pub(crate) has_begun: bool,
    /// Rows of it, known when it has begun.
    pub(crate) n_rows: usize,
    /// How many of them have been run.
    pub(crate) n_done: usize,
    /// The first `n_done` rows of the result, with room for all.
    pub(crate) out: Vec<f32>,
    reply: Option<Reply<Vec<f32>>>,
}

impl LayerCall {
    pub(crate) fn new(work: LayerWork, adapters: Adapters, reply: Reply<Vec<f32>>) -> Self {
        let (n_rows, n_done) = (0, 0);
        let (out, reply) = (Vec::new(), Some(reply));
        LayerCall { work, adapters, has_begun: false, n_rows, n_done, out, reply }
    }

    /// Rows that were not run yet.
    pub(crate) fn n_pending(&self) -> usize {
        self.n_rows - self.n_done
    }

    /// Positions that a layer is going to write, of which sequence.
    pub(crate) fn writes(&self) -> Option<(u32, Range<usize>)> {
        match self.work {
            LayerWork::Forward { position, sequence, .. } => {
                Some((sequence, position..position + self.n_rows))
            }
            _ => None,
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    /// Bytes of what it was given and of what came out.
    fn n_bytes(&self) -> usize {
        let given = match &self.work {
            LayerWork::EmbedTokens { tokens, .. } => size_of_val(&tokens[..]),
            LayerWork::Forward { hidden, .. } | LayerWork::ComputeLogits(hidden) => {
                size_of_val(&hidden[..])
            }
            LayerWork::Drop { .. } => 0,
        };
        given + size_of_val(&self.out[..])
    }

    /// Frees a call that is over. Giving back many pages of memory takes as long as steps do, so
    /// a large one is freed on a thread of its own, where there are threads.
    pub(crate) fn free(self) {
        #[cfg(not(target_arch = "wasm32"))]
        if self.n_bytes() >= LARGE_BYTES {
            // Where none can be started, it is freed here.
            let work = move || drop(self);
            drop(std::thread::Builder::new().name("realm-free".into()).spawn(work));
        }
    }

    /// Answers with the result.
    pub(crate) fn finish(&mut self) {
        let out = std::mem::take(&mut self.out);
        self.answer(Ok(out));
    }

    /// Answers with an error.
    pub(crate) fn fail(&mut self, error: Error) {
        self.answer(Err(error));
    }

    fn answer(&mut self, result: Result<Vec<f32>>) {
        if let Some(reply) = self.reply.take() {
            reply.send(result);
        }
    }
}
