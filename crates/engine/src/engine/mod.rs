//! Requests, KV cache, scheduler and runner of one model, without threads.
//!
//! Whoever owns an [`Engine`] calls [`Engine::step`] until [`Engine::is_idle`], hands out
//! [`Engine::take_events`] after each step, and makes requests in between: natively a thread
//! does that, in a browser a task on the event loop.
//!
//! One step is one batch, and beside it one part of a layer call:
//!
//! 1. end what was aborted ([`step`]);
//! 2. plan: who is admitted, who gives up room for others, rows for each ([`crate::scheduler`]);
//! 3. take the room and run the batch ([`batch`]): a row for each generation that decodes, parts
//!    of prompts and of texts; choose tokens, pool rows;
//! 4. run one part of the oldest layer call ([`layer_calls`]);
//! 5. let go of what is over.
//!
//! A row's result does not depend on its neighbours, and each generation has a sampler of its
//! own, so an answer is the same alone and among others.

mod batch;
mod kept;
mod layer_calls;
mod step;
mod submit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use realm_ir::{Program, Session, Uploaded};
use realm_model::{EmbeddingPlan, Pooling};

use crate::adapter::{AdapterSet, Lora};
use crate::error::{Error, Result};
use crate::kv::{KvManager, Storage};
use crate::requests::{Event, LayerSequence, Request, RequestId, Vocabulary, Work};
use crate::runner::{Logits, ModelRunner, OpenSession};
use crate::scheduler::Policy;
use kept::KeptSequences;
use submit::Preparing;

/// Sizes that an [`Engine`] works within; those of its session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Positions per sequence.
    pub context_length: usize,
    /// Positions per page of the KV cache.
    pub page_tokens: usize,
    /// Pages of the KV cache.
    pub n_pages: usize,
    /// Most rows of a batch.
    pub max_rows: usize,
    /// Most rows with logits in a batch.
    pub max_outputs: usize,
    /// Entries of the vocabulary.
    pub n_vocab: usize,
    /// Recurrent states; 0 for programs without recurrent steps.
    pub n_states: usize,
}

/// What an [`Engine`] is made of.
pub struct EngineParts {
    /// Opened for `program` with `limits`.
    pub session: Box<dyn Session>,
    /// Opens another like it, in place of one that is dead.
    pub open_session: OpenSession,
    /// The model.
    pub program: Arc<Program>,
    /// Its hidden states and scores.
    pub embedding: EmbeddingPlan,
    /// Its tokens.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// Sizes of the session.
    pub limits: Limits,
    /// Most rows that are not decoding in a batch that also decodes.
    pub rows_beside_decoding: usize,
    /// Set from outside when everything is to end with `DISPOSED`.
    pub stop: Arc<AtomicBool>,
    /// Milliseconds since any fixed moment.
    pub clock: fn() -> f64,
}

/// One model with all that is asked of it.
pub struct Engine {
    embedding: EmbeddingPlan,
    vocabulary: Arc<dyn Vocabulary>,
    limits: Limits,
    policy: Policy,
    stop: Arc<AtomicBool>,
    clock: fn() -> f64,
    runner: ModelRunner,
    kv: KvManager,
    adapters: AdapterSet,
    kept: KeptSequences,
    layer_sequences: BTreeMap<u32, LayerSequence>,
    /// Requests whose prompts or texts are not there yet.
    preparing: BTreeMap<RequestId, Preparing>,
    /// Oldest first.
    queue: Vec<Request>,
    events: Vec<(RequestId, Event)>,
    /// Of the last batch.
    logits: Logits,
}

fn empty_cache(limits: &Limits) -> KvManager {
    KvManager::new(limits.n_pages, limits.page_tokens, limits.n_states)
}

impl Engine {
    /// An idle engine.
    pub fn new(parts: EngineParts) -> Self {
        let EngineParts { session, open_session, program, mut limits, .. } = parts;
        // Every row of a batch has a place of its own in the cache.
        let places = limits.n_pages.saturating_mul(limits.page_tokens);
        limits.max_rows = limits.max_rows.min(places);
        Engine {
            embedding: parts.embedding,
            vocabulary: parts.vocabulary,
            limits,
            policy: Policy {
                max_rows: limits.max_rows,
                max_running: limits.max_outputs,
                rows_beside_decoding: parts.rows_beside_decoding,
            },
            stop: parts.stop,
            clock: parts.clock,
            runner: ModelRunner::new(session, open_session, program, limits.page_tokens),
            kv: empty_cache(&limits),
            adapters: AdapterSet::default(),
            kept: KeptSequences::default(),
            layer_sequences: BTreeMap::new(),
            preparing: BTreeMap::new(),
            queue: Vec::new(),
            events: Vec::new(),
            logits: Logits::default(),
        }
    }

    /// Whether there is nothing to step for. Requests that are being prepared need no steps, and
    /// neither do answers that nobody reads.
    pub fn is_idle(&self) -> bool {
        self.queue.iter().all(Request::is_paused)
    }

    /// What happened to generations since the last call, in order.
    pub fn take_events(&mut self) -> Vec<(RequestId, Event)> {
        std::mem::take(&mut self.events)
    }

    /// Pages that nobody holds.
    pub fn n_free_pages(&self) -> usize {
        self.kv.free().pages
    }

    /// Recurrent states that nobody holds.
    pub fn n_free_states(&self) -> usize {
        self.kv.free().states
    }

    /// The pooling that the model's file asks for.
    pub fn default_pooling(&self) -> Pooling {
        self.embedding.pooling
    }

    /// Takes an adapter that the model's backend has made ready.
    pub fn add_adapter(&mut self, id: u32, adapter: Uploaded) {
        self.adapters.add(id, adapter);
    }

    /// Forgets an adapter, in the default too. What runs with it ends with it.
    pub fn remove_adapter(&mut self, id: u32) {
        self.adapters.remove(id);
    }

    /// Sets what everything runs with from now on that does not say otherwise.
    /// Requests under way go on with what they began with.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an adapter that is not loaded or a scale that is not
    /// finite; the default is then unchanged.
    pub fn set_default_adapters(&mut self, default: Vec<Lora>) -> Result<()> {
        self.adapters.set_default(default)
    }

    /// Goes on after a defect, such as a panic in the middle of a step: nothing of the session
    /// and of the KV cache can be relied on. Whatever was in the queue ends with `error`, since
    /// any of it may be the cause; kept sequences are empty and are read again at their next
    /// use; and the session is opened anew. Where that fails, everything is `MODEL_LOST` from
    /// then on.
    pub fn recover(&mut self, error: Error) {
        let error = Arc::new(error);
        for index in 0..self.queue.len() {
            self.fail(index, &error);
        }
        self.remove_finished();
        self.kept.clear_all();
        self.layer_sequences.clear();
        self.kv = empty_cache(&self.limits);
        if let Err(error) = self.runner.reopen() {
            tracing::error!("the model is lost, no session can be opened: {error}");
        }
    }

    /// Ends every request with `error`.
    pub fn fail_all(&mut self, error: Error) {
        let error = Arc::new(error);
        for index in 0..self.queue.len() {
            self.fail(index, &error);
        }
        self.remove_finished();
        let preparing: Vec<RequestId> = self.preparing.keys().copied().collect();
        preparing.into_iter().for_each(|id| self.prepared(id, Err(error.again())));
    }

    /// Checks that no page and no state is lost or held by two who do not share it. For tests.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let mut storages: Vec<&Storage> = self.kept.storages().collect();
        storages.extend(self.layer_sequences.values().map(|sequence| &sequence.storage));
        for request in &self.queue {
            match &request.work {
                Work::Generation(generation) => storages.push(generation.sequence.storage()),
                Work::Embedding(embedding) => storages.extend(embedding.storages()),
                Work::Layers(_) => {}
            }
        }
        let used = self.queue.iter().filter_map(|request| match &request.work {
            Work::Generation(generation) => generation.kept,
            _ => None,
        });
        self.kept.check(used)?;
        self.kv.check(storages.into_iter())
    }

    /// Ends a request with an error, unless it is over.
    fn fail(&mut self, index: usize, error: &Arc<Error>) {
        let request = &mut self.queue[index];
        if request.is_finished {
            return;
        }
        request.is_finished = true;
        match &mut request.work {
            Work::Generation(_) => self.events.push((request.id, Event::Error(error.clone()))),
            Work::Embedding(embedding) => embedding.fail(error.again()),
            Work::Layers(call) => call.fail(error.again()),
        }
    }

    /// Lets go of requests that are over; their kept sequences are idle again.
    fn remove_finished(&mut self) {
        for request in self.queue.extract_if(.., |request| request.is_finished) {
            match request.work {
                Work::Generation(generation) => {
                    if let Some(kept) = generation.kept {
                        self.kept.put_back(kept, generation.sequence);
                    }
                }
                Work::Embedding(_) => {}
                Work::Layers(call) => call.free(),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}
