//! Sequences, scheduling and sampling over one session, without threads.
//!
//! Whoever owns a [`Core`] calls [`Core::step`] until [`Core::is_idle`], hands out
//! [`Core::take_events`] after each step, and gives commands in between: natively
//! a thread does that, in a browser a task on the event loop.
//!
//! One step is one batch. Every running generation has a row for each token
//! that is not in the KV cache yet: one while it decodes, a part of its prompt
//! before. A row's result does not depend on its neighbours, and each generation
//! has a sampler of its own, so an answer is the same alone and among others.

mod adapters;
mod embed;
mod generation;
mod kept;
mod layers;
mod page_table;
mod pages;
mod schedule;
mod sequence;
mod step;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use embed::EmbedOptions;
pub use generation::{Chunk, Completion, Event, FinishReason, GenerationId, Request};
pub use text::{TextStream, Vocabulary};

use adapters::AdapterSet;
use generation::Generation;
use kept::Kept;
use layers::LayerSequence;
use pages::PagePool;
use realm_ir::{Program, Session};
use realm_model::EmbeddingPlan;
use sequence::{Cache, Sequence, StatePool};
use step::Logits;
use text::Answer;

use crate::error::{Error, Result};

/// Sizes that a [`Core`] works within; those of its session.
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
    /// Most rows for prompts in a batch that also decodes.
    pub prompt_rows_beside_decoding: usize,
    /// Entries of the vocabulary.
    pub n_vocab: usize,
    /// Recurrent states; 0 for programs without recurrent steps.
    pub n_states: usize,
}

/// What a [`Core`] is made of.
pub struct CoreParts {
    /// Opened for `program` with `limits`.
    pub session: Box<dyn Session>,
    /// The model.
    pub program: Arc<Program>,
    /// Its hidden states and scores.
    pub embedding: EmbeddingPlan,
    /// Its tokens.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// Sizes of the session.
    pub limits: Limits,
    /// Set from outside when everything is to end with `DISPOSED`.
    pub stop: Arc<AtomicBool>,
    /// Milliseconds since any fixed moment.
    pub clock: fn() -> f64,
}

/// One model's sequences and generations.
pub struct Core {
    program: Arc<Program>,
    embedding: EmbeddingPlan,
    vocabulary: Arc<dyn Vocabulary>,
    limits: Limits,
    stop: Arc<AtomicBool>,
    clock: fn() -> f64,
    cache: Cache,
    adapters: AdapterSet,
    kept: BTreeMap<u32, Kept>,
    layer_sequences: BTreeMap<u32, LayerSequence>,
    /// Oldest first.
    generations: Vec<Generation>,
    events: Vec<(GenerationId, Event)>,
    /// Of the last batch.
    logits: Logits,
}

impl Core {
    /// An idle core.
    pub fn new(parts: CoreParts) -> Self {
        let CoreParts { session, program, embedding, vocabulary, limits, stop, clock } = parts;
        let pool = PagePool::new(limits.n_pages as u32);
        Core {
            program,
            embedding,
            vocabulary,
            limits,
            stop,
            clock,
            cache: Cache {
                session,
                pool,
                page_tokens: limits.page_tokens,
                states: StatePool::new(limits.n_states),
            },
            adapters: AdapterSet::default(),
            kept: BTreeMap::new(),
            layer_sequences: BTreeMap::new(),
            generations: Vec::new(),
            events: Vec::new(),
            logits: Logits::default(),
        }
    }

    /// Whether there is nothing to step for.
    pub fn is_idle(&self) -> bool {
        self.generations.is_empty()
    }

    /// What happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<(GenerationId, Event)> {
        std::mem::take(&mut self.events)
    }

    /// Pages that nobody holds.
    pub fn n_free_pages(&self) -> usize {
        self.cache.pool.n_free()
    }

    /// Starts a generation. A request that cannot be run gets an error event.
    pub fn start(&mut self, id: GenerationId, request: Request) {
        if let Err(error) = self.try_start(id, request) {
            self.events.push((id, Event::Error(Arc::new(error))));
        }
    }

    fn try_start(&mut self, id: GenerationId, request: Request) -> Result<()> {
        self.check_request(&request)?;
        let adapters = self.adapters.find(request.adapters.as_deref())?;
        let sequence = match request.sequence {
            Some(kept) => self.take_kept(kept, &request.prompt, adapters)?,
            None => Sequence::with(adapters),
        };
        let mut answer = Answer::new(self.vocabulary.text_stream(), request.stop.clone());
        if let Some(text) = &request.echo {
            answer.echo(text);
            let chunk = Chunk { text: text.clone(), tokens: Vec::new(), index: 0 };
            self.events.push((id, Event::Chunk(chunk)));
        }
        let now = (self.clock)();
        self.generations.push(Generation::new(id, request, sequence, answer, now));
        Ok(())
    }

    fn check_request(&self, request: &Request) -> Result<()> {
        self.check_has_logits()?;
        request.sampling.check()?;
        if let Some(i) = request.stop.iter().position(String::is_empty) {
            return Err(Error::invalid(format!("stop[{i}] is empty")));
        }
        if request.prompt.is_empty() {
            return Err(Error::invalid("the prompt has no tokens, expected at least one"));
        }
        self.check_tokens(&request.prompt)?;
        let (found, context) = (request.prompt.len(), self.limits.context_length);
        if found >= context {
            return Err(Error::kv_exhausted(format!(
                "the prompt has {found} tokens and the context takes {context}, one of them \
                 for the answer; shorten the prompt or load with a larger contextLength"
            )));
        }
        Ok(())
    }

    fn check_has_logits(&self) -> Result<()> {
        match self.embedding.is_encoder {
            false => Ok(()),
            true => Err(Error::invalid(
                "the model is an encoder: it has no logits and cannot generate; use embed",
            )),
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let n_vocab = self.limits.n_vocab;
        match tokens.iter().position(|token| *token as usize >= n_vocab) {
            None => Ok(()),
            Some(i) => {
                let token = tokens[i];
                Err(Error::invalid(format!(
                    "token id {token} at index {i}, the vocabulary has {n_vocab}"
                )))
            }
        }
    }

    /// Ends every generation and empties every sequence after a defect, such as a
    /// panic in the middle of a step: nothing in the KV cache can be relied on.
    pub fn recover(&mut self, error: Error) {
        let error = Arc::new(error);
        let running = std::mem::take(&mut self.generations);
        let running = running.iter().filter(|generation| !generation.is_finished);
        self.events.extend(running.map(|g| (g.id, Event::Error(error.clone()))));
        self.cache.pool = PagePool::new(self.limits.n_pages as u32);
        self.cache.states = StatePool::new(self.limits.n_states);
        self.layer_sequences.clear();
        self.kept.retain(|_, kept| !matches!(kept, Kept::Busy { is_closing: true }));
        for kept in self.kept.values_mut() {
            *kept = Kept::Idle(Sequence::default());
        }
    }

    /// Ends every generation with `error`.
    pub fn fail_all(&mut self, error: Arc<Error>) {
        for index in 0..self.generations.len() {
            self.fail(index, error.clone());
        }
        self.remove_finished();
    }

    fn fail(&mut self, index: usize, error: Arc<Error>) {
        let generation = &mut self.generations[index];
        if !generation.is_finished {
            generation.is_finished = true;
            self.events.push((generation.id, Event::Error(error)));
        }
    }

    fn finish(&mut self, index: usize, reason: FinishReason) {
        let now = (self.clock)();
        let generation = &mut self.generations[index];
        generation.is_finished = true;
        let completion = generation.completion(reason, now);
        self.events.push((generation.id, Event::End(completion)));
    }

    /// Gives back the sequences of generations that are over.
    fn remove_finished(&mut self) {
        for mut generation in self.generations.extract_if(.., |g| g.is_finished) {
            match generation.kept {
                Some(kept) => {
                    kept::put_back(&mut self.kept, &mut self.cache, kept, generation.sequence)
                }
                None => generation.sequence.truncate(&mut self.cache, 0),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
