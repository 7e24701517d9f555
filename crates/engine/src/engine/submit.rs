//! How requests come in.
//!
//! A request is *registered* in the order in which it was made, which settles what it depends
//! on: its kept sequence and its adapters. It joins the queue when its prompt or its texts are
//! *prepared*, which for long ones happens elsewhere and meanwhile others run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use realm_ir::Slot;
use realm_model::Pooling;

use super::Engine;
use crate::adapter::Adapters;
use crate::error::{Error, Result};
use crate::kv::Sequence;
use crate::prompt::Prepared;
use crate::requests::{
    Answer, Chunk, Completion, EmbedOptions, Embedding, EmbeddingRequest, Event, FinishReason,
    Generation, GenerationRequest, LayerCall, LayerRequest, LayerWork, Pool, Reply, Request,
    RequestId, Work,
};

/// A request that waits for its prompt or its texts.
pub(super) enum Preparing {
    Generation { request: Box<GenerationRequest>, adapters: Adapters, requested: f64 },
    Embedding(PreparingEmbedding),
}

/// An embedding without texts.
pub(super) struct PreparingEmbedding {
    adapters: Adapters,
    pool: Pool,
    abort: Arc<AtomicBool>,
    reply: Reply<Vec<Vec<f32>>>,
}

impl Preparing {
    fn is_aborted(&self) -> bool {
        match self {
            Preparing::Generation { request, .. } => request.abort.load(Ordering::Acquire),
            Preparing::Embedding(embedding) => embedding.abort.load(Ordering::Acquire),
        }
    }
}

impl Engine {
    /// Starts a generation. A request that cannot be run gets an error event.
    pub fn generate(&mut self, id: RequestId, mut request: GenerationRequest) {
        let tokens = std::mem::take(&mut request.prompt);
        let prompt = Prepared { tokens, text: request.echo.take() };
        if self.register_generation(id, request) {
            self.prepared(id, Ok(vec![prompt]));
        }
    }

    /// Starts a generation whose prompt comes later: that of `request` is not looked at. False
    /// when it cannot be run, which an error event says.
    pub fn register_generation(&mut self, id: RequestId, request: GenerationRequest) -> bool {
        match self.check_generation(&request) {
            Ok(adapters) => {
                let requested = (self.clock)();
                let request = Box::new(request);
                let preparing = Preparing::Generation { request, adapters, requested };
                self.preparing.insert(id, preparing);
                true
            }
            Err(error) => {
                self.events.push((id, Event::Error(Arc::new(error))));
                false
            }
        }
    }

    /// What can be checked without a prompt; claims the kept sequence.
    fn check_generation(&mut self, request: &GenerationRequest) -> Result<Adapters> {
        self.runner.check()?;
        self.check_has_logits()?;
        request.sampling.check()?;
        let adapters = self.adapters.find(request.adapters.as_deref())?;
        request.sequence.map_or(Ok(()), |kept| self.kept.claim(kept))?;
        Ok(adapters)
    }

    /// One vector per text: `[embedding_length]`, `[tokens, embedding_length]` without
    /// pooling, or `[classes]` scores.
    ///
    /// # Errors
    /// Through `reply`: `INVALID_ARGUMENT` for a text without tokens, an id outside the
    /// vocabulary, or scores from a model that has none; `KV_EXHAUSTED` for a text longer than
    /// the context, or when there is no room for one even when nobody else runs; `INTERNAL` when
    /// a value is not a number or infinite; `ABORTED`.
    pub fn embed(&mut self, id: RequestId, request: EmbeddingRequest, reply: Reply<Vec<Vec<f32>>>) {
        let EmbeddingRequest { texts, options, abort } = request;
        let texts = texts.into_iter().map(|tokens| Prepared { tokens, text: None });
        if self.register_embedding(id, options, abort, reply) {
            self.prepared(id, Ok(texts.collect()));
        }
    }

    /// [`Engine::embed`] whose texts come later. False when it cannot be run, which `reply` has
    /// been told.
    pub fn register_embedding(
        &mut self,
        id: RequestId,
        options: EmbedOptions,
        abort: Arc<AtomicBool>,
        reply: Reply<Vec<Vec<f32>>>,
    ) -> bool {
        let checked = self
            .runner
            .check()
            .and_then(|()| Ok((self.result_slot(options.pooling)?, self.adapters.find(None)?)));
        match checked {
            Ok((slot, adapters)) => {
                let width = self.runner.program().width(slot);
                let is_encoder = self.embedding.is_encoder;
                let pool = Pool { options, slot, width, is_encoder };
                let embedding = PreparingEmbedding { adapters, pool, abort, reply };
                self.preparing.insert(id, Preparing::Embedding(embedding));
                true
            }
            Err(error) => {
                reply.send(Err(error));
                false
            }
        }
    }

    /// Gives a registered request its prompt, or its texts, or what went wrong with them. One
    /// that has ended meanwhile is left alone.
    pub fn prepared(&mut self, id: RequestId, prompts: Result<Vec<Prepared>>) {
        match self.preparing.remove(&id) {
            None => {}
            Some(Preparing::Generation { request, adapters, requested }) => {
                let kept = request.sequence;
                let prompt = prompts.and_then(|mut prompts| {
                    prompts.pop().ok_or_else(|| Error::internal("a generation has no prompt"))
                });
                if let Err(error) = self.queue_generation(id, *request, adapters, requested, prompt)
                {
                    kept.into_iter().for_each(|kept| self.kept.unclaim(kept));
                    self.events.push((id, Event::Error(Arc::new(error))));
                }
            }
            Some(Preparing::Embedding(embedding)) => {
                let texts = prompts.map(|texts| texts.into_iter().map(|text| text.tokens));
                match texts.map(Iterator::collect).and_then(|texts| self.check_texts(texts)) {
                    Ok(texts) => self.queue_embedding(id, embedding, texts),
                    Err(error) => embedding.reply.send(Err(error)),
                }
            }
        }
    }

    fn queue_generation(
        &mut self,
        id: RequestId,
        request: GenerationRequest,
        adapters: Adapters,
        requested: f64,
        prompt: Result<Prepared>,
    ) -> Result<()> {
        let Prepared { tokens, text } = prompt?;
        self.check_prompt(&tokens)?;
        let sequence = match request.sequence {
            Some(kept) => self.kept.take(kept, &tokens, adapters)?,
            None => Sequence::new(&self.kv, adapters),
        };
        let stream = self.vocabulary.text_stream();
        let mut answer = Answer::new(stream, request.stop.clone(), request.min_tokens);
        if let Some(text) = text {
            answer.echo(&text);
            let chunk = Chunk { text, tokens: Vec::new(), index: 0 };
            self.events.push((id, Event::Chunk(chunk)));
        }
        let abort = request.abort.clone();
        let request = GenerationRequest { prompt: tokens, ..request };
        let generation = Generation::new(request, sequence, answer, requested);
        self.queue.push(Request::new(id, abort, Work::Generation(Box::new(generation))));
        Ok(())
    }

    fn queue_embedding(
        &mut self,
        id: RequestId,
        preparing: PreparingEmbedding,
        texts: Vec<Vec<u32>>,
    ) {
        let PreparingEmbedding { adapters, pool, abort, reply } = preparing;
        if texts.is_empty() {
            return reply.send(Ok(Vec::new()));
        }
        let embedding = Box::new(Embedding::new(texts, adapters, pool, reply));
        self.queue.push(Request::new(id, abort, Work::Embedding(embedding)));
    }

    /// Runs a single segment; see [`LayerWork`] for what comes out. Calls run in the order in
    /// which they were made.
    ///
    /// # Errors
    /// Through `reply`: `INVALID_ARGUMENT` for an id outside the vocabulary, a layer that is not
    /// there, a position beyond what the layer holds or beyond what the layer holds whose keys
    /// and values it shares, or logits of an encoder; `SHAPE_MISMATCH` when rows are not whole;
    /// `KV_EXHAUSTED` when there are no pages even when nobody else runs, or the context ends,
    /// and the sequence is unchanged then; `OUT_OF_MEMORY`; `ABORTED`.
    pub fn run_layers(&mut self, id: RequestId, request: LayerRequest, reply: Reply<Vec<f32>>) {
        let LayerRequest { work, abort } = request;
        match self.runner.check().and_then(|()| self.adapters.find(None)) {
            Ok(adapters) => {
                let call = Box::new(LayerCall::new(work, adapters, reply));
                self.queue.push(Request::new(id, abort, Work::Layers(call)));
            }
            Err(error) => reply.send(Err(error)),
        }
    }

    /// Frees the keys and values that [`LayerWork::Forward`] keeps for a sequence, when the calls
    /// before it have run. One that is not there is empty already.
    pub fn drop_layer_sequence(&mut self, id: RequestId, sequence: u32) {
        if self.queue.iter().any(Request::is_layer_call) {
            let work = LayerWork::Drop { sequence };
            let request = LayerRequest { work, abort: Arc::default() };
            self.run_layers(id, request, Reply::new(|_| ()));
        } else {
            self.layer_sequences.remove(&sequence);
        }
    }

    /// Ends those that are being prepared and that somebody wants to end.
    pub(super) fn sweep_preparing(&mut self) {
        let aborted = self.preparing.extract_if(.., |_, preparing| preparing.is_aborted());
        let now = (self.clock)();
        for (id, preparing) in aborted {
            match preparing {
                Preparing::Generation { request, requested, .. } => {
                    request.sequence.into_iter().for_each(|kept| self.kept.unclaim(kept));
                    let completion = Completion {
                        text: String::new(),
                        tokens: Vec::new(),
                        finish_reason: FinishReason::Abort,
                        stop_text: None,
                        prompt_tokens: 0,
                        cached_tokens: 0,
                        seed: request.sampling.seed,
                        prompt_ms: 0.0,
                        first_token_ms: now - requested,
                        decode_ms: 0.0,
                    };
                    self.events.push((id, Event::End(completion)));
                }
                Preparing::Embedding(embedding) => embedding.reply.send(Err(Error::Aborted)),
            }
        }
    }

    fn check_prompt(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::invalid("the prompt has no tokens, expected at least one"));
        }
        let (found, context) = (tokens.len(), self.limits.context_length);
        if found >= context {
            return Err(Error::kv_exhausted(format!(
                "the prompt has {found} tokens and the context takes {context}, one of them \
                 for the answer; shorten the prompt or load with a larger contextLength"
            )));
        }
        self.check_tokens(tokens, 0)
    }

    fn check_texts(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<u32>>> {
        let context = match self.embedding.is_encoder {
            true => self.limits.context_length.min(self.limits.max_rows),
            false => self.limits.context_length,
        };
        for (index, text) in texts.iter().enumerate() {
            if text.is_empty() {
                return Err(Error::invalid(format!("text {index} has no tokens")));
            }
            if text.len() > context {
                return Err(Error::kv_exhausted(format!(
                    "text {index} has {} tokens and the context takes {context}; shorten it or \
                     load with a larger contextLength",
                    text.len()
                )));
            }
            self.check_tokens(text, 0)?;
        }
        Ok(texts)
    }

    fn result_slot(&self, pooling: Pooling) -> Result<Slot> {
        match pooling {
            Pooling::Rank => self.embedding.scores.ok_or_else(|| {
                Error::invalid(
                    "the model has no head for scores (cls.output.weight): it cannot rank",
                )
            }),
            _ => Ok(self.embedding.hidden),
        }
    }

    pub(super) fn check_has_logits(&self) -> Result<()> {
        match self.embedding.is_encoder {
            false => Ok(()),
            true => Err(Error::invalid(
                "the model is an encoder: it has no logits and cannot generate; use embed",
            )),
        }
    }

    /// That `tokens`, which begin at `first` of what was given, are in the vocabulary.
    pub(super) fn check_tokens(&self, tokens: &[u32], first: usize) -> Result<()> {
        let n_vocab = self.limits.n_vocab;
        match tokens.iter().position(|token| *token as usize >= n_vocab) {
            None => Ok(()),
            Some(i) => {
                let (token, i) = (tokens[i], first + i);
                Err(Error::invalid(format!(
                    "token id {token} at index {i}, the vocabulary has {n_vocab}"
                )))
            }
        }
    }
}
