//! What a model can be asked for: generations, embeddings, single layers.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures_channel::mpsc::UnboundedSender;
use realm_model::Pooling;

use super::engine_loop::{Command, Listener, Purpose, StartEmbedding, StartGeneration};
use super::{ModelHandle, Reply, Sink, lock};
use crate::error::Result;
use crate::options::{GenerateOptions, Prompt};
use crate::pairs;
use crate::prompt::Input;
use crate::requests::{Allowance, LayerRequest, LayerWork, RequestId};
use crate::stop::StopStrings;

/// Ends a request from outside, or lets it go on. Dropping this ends nothing.
#[derive(Clone)]
pub struct RequestHandle {
    /// Gone when the request is over.
    abort: Weak<AtomicBool>,
    allowance: Allowance,
    commands: UnboundedSender<Command>,
}

impl RequestHandle {
    /// Ends the request within one step: a generation with what it has, another one with
    /// `ABORTED`. Any number of calls.
    pub fn abort(&self) {
        let Some(abort) = self.abort.upgrade() else { return };
        abort.store(true, Ordering::Release);
        // Nobody may be stepping: the request's prompt may not be there yet.
        drop(self.commands.unbounded_send(Command::Wake));
    }

    /// Lets a generation have `n_tokens` in all; see [`GenerateOptions::max_buffered`]. Any number
    /// of calls, of which the largest counts.
    pub fn allow(&self, n_tokens: usize) {
        if self.abort.strong_count() == 0 {
            return;
        }
        self.allowance.raise(n_tokens);
        drop(self.commands.unbounded_send(Command::Wake));
    }
}

/// 32 random bits: few enough to be read and typed again.
fn random_seed() -> u64 {
    // Every `RandomState` has keys of its own, drawn from the operating system.
    std::hash::RandomState::new().build_hasher().finish() >> 32
}

impl ModelHandle {
    /// A new request: its number, its flag, and the means to set that.
    fn new_request(&self) -> (RequestId, Arc<AtomicBool>, RequestHandle) {
        let id = RequestId(self.next_request.fetch_add(1, Ordering::Relaxed));
        let abort = Arc::new(AtomicBool::new(false));
        let mut aborts = lock(&self.aborts);
        aborts.retain(|flag| flag.strong_count() > 0);
        aborts.push(Arc::downgrade(&abort));
        let handle = RequestHandle {
            abort: Arc::downgrade(&abort),
            allowance: Allowance::default(),
            commands: self.commands.clone(),
        };
        (id, abort, handle)
    }

    /// Starts a generation. Everything that happens to it, errors included, goes
    /// to `sink`.
    pub fn generate(
        &self,
        prompt: Prompt,
        mut options: GenerateOptions,
        sink: Sink,
    ) -> RequestHandle {
        if options.draw_seed {
            options.sampling.seed = random_seed();
        }
        let (id, abort, handle) = self.new_request();
        let allowance = Allowance::new(options.max_buffered);
        let handle = RequestHandle { allowance: allowance.clone(), ..handle };
        let listener = Listener::new(sink);
        // Here, so that the engine's thread does not make them ready.
        let stop = self.stop_strings(&std::mem::take(&mut options.stop));
        let start = StartGeneration { id, prompt, stop, options, abort, allowance, listener };
        self.send(Command::Generate(Box::new(start)));
        handle
    }

    /// Makes strings ready to be looked for in an answer.
    ///
    /// # Errors
    /// Those of [`StopStrings::new`]; `INVALID_ARGUMENT` for any in a model without text,
    /// `DISPOSED`.
    fn stop_strings(&self, stops: &[String]) -> Result<StopStrings> {
        if !stops.is_empty() {
            self.loaded()?.text()?;
        }
        StopStrings::new(stops)
    }

    /// One vector per text: `[embedding_length]`, or `[tokens, embedding_length]` without
    /// pooling. Without `pooling`, the file's own; token ids are taken as they are.
    ///
    /// # Errors
    /// Through `reply`: `INVALID_ARGUMENT` for a text without tokens or an id outside the
    /// vocabulary, `KV_EXHAUSTED` for a text longer than the context, `ABORTED`, `DISPOSED`.
    pub fn embed(
        &self,
        texts: Vec<Prompt>,
        pooling: Option<Pooling>,
        normalize: bool,
        reply: Reply<Vec<Vec<f32>>>,
    ) -> RequestHandle {
        let purpose = Purpose::Embed { pooling, normalize };
        self.start_embedding(Input::Texts(texts), purpose, reply)
    }

    /// How well each document answers the query: the first of the model's scores, or
    /// the share of the first in their softmax where a model has several.
    ///
    /// # Errors
    /// Through `reply`: `INVALID_ARGUMENT` when the model does not rank, and those of
    /// [`ModelHandle::embed`].
    pub fn rank(
        &self,
        query: String,
        documents: Vec<String>,
        reply: Reply<Vec<f32>>,
    ) -> RequestHandle {
        let reply = reply.converting(|scores: Vec<Vec<f32>>| {
            scores.iter().map(|scores| pairs::score(scores)).collect()
        });
        self.start_embedding(Input::Pairs { query, documents }, Purpose::Rank, reply)
    }

    fn start_embedding(
        &self,
        input: Input,
        purpose: Purpose,
        reply: Reply<Vec<Vec<f32>>>,
    ) -> RequestHandle {
        let (id, abort, handle) = self.new_request();
        let start = StartEmbedding { id, input, purpose, abort, reply };
        self.send(Command::Embed(Box::new(start)));
        handle
    }

    /// Looks up token ids, see [`LayerWork::EmbedTokens`].
    pub fn embed_tokens(
        &self,
        tokens: Vec<u32>,
        position: usize,
        reply: Reply<Vec<f32>>,
    ) -> RequestHandle {
        self.run_layers(LayerWork::EmbedTokens { tokens, position }, reply)
    }

    /// Runs one layer, see [`LayerWork::Forward`].
    pub fn forward_layer(
        &self,
        layer: usize,
        hidden: Vec<f32>,
        position: usize,
        sequence: u32,
        reply: Reply<Vec<f32>>,
    ) -> RequestHandle {
        self.run_layers(LayerWork::Forward { layer, hidden, position, sequence }, reply)
    }

    /// Runs the head, see [`LayerWork::ComputeLogits`].
    pub fn compute_logits(&self, hidden: Vec<f32>, reply: Reply<Vec<f32>>) -> RequestHandle {
        self.run_layers(LayerWork::ComputeLogits(hidden), reply)
    }

    /// Errors are those of [`crate::engine::Engine::run_layers`].
    fn run_layers(&self, work: LayerWork, reply: Reply<Vec<f32>>) -> RequestHandle {
        let (id, abort, handle) = self.new_request();
        let request = LayerRequest { work, abort };
        self.send(Command::Layers { id, request, reply });
        handle
    }

    /// Frees the keys and values of a sequence of [`ModelHandle::forward_layer`], when the calls
    /// before this one have run. One that is not there is empty already.
    ///
    /// # Errors
    /// `DISPOSED`.
    pub fn drop_layer_sequence(&self, sequence: u32) -> Result<()> {
        self.loaded()?;
        let (id, ..) = self.new_request();
        self.tell("drop a sequence", move |engine| {
            engine.drop_layer_sequence(id, sequence);
            Ok(())
        });
        Ok(())
    }
}
