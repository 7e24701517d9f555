//! One answer in the making.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::text::Answer;
use crate::adapter::Lora;
use crate::error::{Error, Result};
use crate::kv::Sequence;
use crate::runner::Logits;
use crate::sampler::{Sampler, SamplingOptions};
use crate::stop::StopStrings;

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerationRequest {
    /// Tokens to continue; at least one.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Most tokens of the answer. With 0 the prompt is read and nothing is sampled.
    pub max_tokens: usize,
    /// Neither end-of-generation tokens nor stop strings end it before this many tokens.
    pub min_tokens: usize,
    /// End-of-generation tokens are never chosen.
    pub ignore_eos: bool,
    /// Strings that end the answer and are not part of it.
    pub stop: StopStrings,
    /// Text in front of the answer: that of the prompt, when it is wanted back.
    pub echo: Option<String>,
    /// A kept sequence to continue, or none for one that ends with the generation.
    pub sequence: Option<u32>,
    /// What it runs with; none for the model's default.
    pub adapters: Option<Vec<Lora>>,
    /// Set by anybody at any time to end the generation within one step.
    pub abort: Arc<AtomicBool>,
    /// Pauses it while nobody reads what it has.
    pub allowance: Allowance,
}

/// How many tokens an answer may have by now. One that has as many waits for more to be allowed,
/// by whoever reads it, and meanwhile gives up its room when others need it.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// So many tokens, until more are allowed.
    pub fn new(n_tokens: usize) -> Self {
        Allowance(Arc::new(AtomicUsize::new(n_tokens)))
    }

    /// Allows `n_tokens` in all; never fewer than before.
    pub fn raise(&self, n_tokens: usize) {
        self.0.fetch_max(n_tokens, Ordering::AcqRel);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for Allowance {
    /// Any number of tokens.
    fn default() -> Self {
        Allowance::new(usize::MAX)
    }
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whole code points. Empty when the tokens completed none, or when it may
    /// be the beginning of a stop string.
    pub text: String,
    /// The tokens behind it; none for text that was only held back.
    pub tokens: Vec<u32>,
    /// Index of the first of these tokens in the answer.
    pub index: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-generation token or a stop string.
    Stop,
    /// `max_tokens`, or the end of the context.
    Length,
    /// Somebody asked for it.
    Abort,
}

impl FinishReason {
    /// The name as programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Abort => "abort",
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// All chunks' text in one.
    pub text: String,
    /// All chunks' tokens in one: everything that was chosen, but not the
    /// end-of-generation token. Includes tokens whose text a stop string cut off.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The stop string that ended it, if one did.
    pub stop_text: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt whose keys and values were already there.
    pub cached_tokens: usize,
    /// The seed in use.
    pub seed: u64,
    /// From the first batch with this prompt to its last, in milliseconds.
    pub prompt_ms: f64,
    /// From the request to the first token, waiting included.
    pub first_token_ms: f64,
    /// From the first token to the end, without the time that it was paused.
    pub decode_ms: f64,
}

/// What happens to a generation: any number of chunks, then one end or error.
#[derive(Clone, Debug)]
pub enum Event {
    /// The next part of the answer.
    Chunk(Chunk),
    /// The answer is over.
    End(Completion),
    /// It failed; the same error may concern several generations.
    Error(Arc<Error>),
}

/// Points in time of one generation, milliseconds of the engine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    requested: f64,
    pub(crate) prompt_started: Option<f64>,
    pub(crate) prompt_ended: Option<f64>,
    first_token: Option<f64>,
    paused: Option<f64>,
    /// How long it was paused before, in milliseconds.
    paused_ms: f64,
}

impl Times {
    fn end_pause(&mut self, now: f64) {
        self.paused_ms += self.paused.take().map_or(0.0, |since| now - since);
    }
}

/// An answer in the making.
pub(crate) struct Generation {
    /// Prompt and answer.
    pub(crate) tokens: Vec<u32>,
    n_prompt: usize,
    n_cached: usize,
    /// What of `tokens` is in the KV cache.
    pub(crate) sequence: Sequence,
    /// The kept sequence it belongs to.
    pub(crate) kept: Option<u32>,
    pub(crate) max_tokens: usize,
    ignore_eos: bool,
    sampler: Sampler,
    pub(crate) answer: Answer,
    allowance: Allowance,
    times: Times,
}

/// Tokens that a model's vocabulary says something about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpecialTokens<'a> {
    /// End an answer.
    pub(crate) ends: &'a [u32],
    /// Are never chosen.
    pub(crate) suppressed: &'a [u32],
}

impl Generation {
    /// A request made at `requested`, on a sequence that holds as much of the prompt as can be
    /// used again.
    pub(crate) fn new(
        request: GenerationRequest,
        sequence: Sequence,
        answer: Answer,
        requested: f64,
    ) -> Self {
        Generation {
            n_prompt: request.prompt.len(),
            n_cached: sequence.len(),
            tokens: request.prompt,
            sequence,
            kept: request.sequence,
            max_tokens: request.max_tokens,
            ignore_eos: request.ignore_eos,
            sampler: Sampler::new(request.sampling),
            answer,
            allowance: request.allowance,
            times: Times {
                requested,
                prompt_started: None,
                prompt_ended: None,
                first_token: None,
                paused: None,
                paused_ms: 0.0,
            },
        }
    }

    /// Tokens that are known but not in the KV cache yet.
    pub(crate) fn n_pending(&self) -> usize {
        self.tokens.len() - self.sequence.len()
    }

    /// The next `n` tokens to read.
    pub(crate) fn next_tokens(&self, n: usize) -> &[u32] {
        &self.tokens[self.sequence.len()..][..n]
    }

    /// Whether a token is chosen when the next `n` tokens have been read.
    pub(crate) fn wants_logits(&self, n: usize) -> bool {
        n == self.n_pending() && self.max_tokens > 0
    }

    /// Whether it waits for somebody to read what it has.
    pub(crate) fn is_paused(&self) -> bool {
        self.answer.tokens.len() >= self.allowance.get()
    }

    /// It waits from now on, until it begins again.
    pub(crate) fn pause(&mut self, now: f64) {
        self.times.paused.get_or_insert(now);
    }

    /// It has the room to begin: its sequence is what it is going to use again. Or to go on, after
    /// it was paused or gave up its room.
    pub(crate) fn begin(&mut self, now: f64) {
        self.times.end_pause(now);
        if self.times.prompt_started.is_none() {
            self.times.prompt_started = Some(now);
            self.n_cached = self.sequence.len();
        }
    }

    /// The next `n` tokens have been read.
    pub(crate) fn advance(&mut self, n: usize, now: f64) {
        let from = self.sequence.len();
        self.sequence.extend(&self.tokens[from..from + n]);
        if self.n_pending() == 0 {
            self.times.prompt_ended.get_or_insert(now);
        }
    }

    /// How many of the best logits are enough to choose from; `None` when only all are.
    pub(crate) fn n_enough(&self, special: SpecialTokens<'_>) -> Option<usize> {
        let n_ends = if self.forbids_end() { special.ends.len() } else { 0 };
        self.sampler.n_enough(special.suppressed.len() + n_ends)
    }

    /// Chooses the next token from the output row `row`.
    ///
    /// # Errors
    /// Those of the sampler.
    pub(crate) fn choose(
        &mut self,
        logits: &mut Logits,
        row: usize,
        n_vocab: usize,
        special: SpecialTokens<'_>,
    ) -> Result<u32> {
        let ends = if self.forbids_end() { special.ends } else { &[] };
        let forbidden = special.suppressed.iter().chain(ends);
        match logits {
            Logits::Best(rows) => self.sampler.sample_best(&rows[row], forbidden),
            Logits::All(values) => {
                let logits = &mut values[row * n_vocab..][..n_vocab];
                self.sampler.sample(logits, &self.tokens, forbidden)
            }
        }
    }

    /// Whether end-of-generation tokens must not be chosen now.
    fn forbids_end(&self) -> bool {
        self.ignore_eos || self.answer.is_too_short()
    }

    /// Takes a sampled token; gives the text that can be handed out with it.
    pub(crate) fn accept(&mut self, token: u32, now: f64) -> String {
        self.times.first_token.get_or_insert(now);
        self.tokens.push(token);
        self.answer.push(token)
    }

    /// The result, when nothing more will come.
    pub(crate) fn completion(&mut self, finish_reason: FinishReason, now: f64) -> Completion {
        self.times.end_pause(now);
        let times = &self.times;
        let started = times.prompt_started.unwrap_or(now);
        let first_token = times.first_token.or(times.prompt_ended).unwrap_or(now);
        Completion {
            text: std::mem::take(&mut self.answer.text),
            tokens: std::mem::take(&mut self.answer.tokens),
            finish_reason,
            stop_text: self.answer.stop_text.take(),
            prompt_tokens: self.n_prompt,
            cached_tokens: self.n_cached,
            seed: self.sampler.seed(),
            prompt_ms: times.prompt_ended.unwrap_or(now) - started,
            first_token_ms: first_token - times.requested,
            decode_ms: now - first_token - times.paused_ms,
        }
    }
}
