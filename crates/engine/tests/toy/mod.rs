//! A backend so small that every logit can be worked out by hand, and strict
//! about what it is asked.
//!
//! Layer `l` keeps one number per position: its input. Its output at position `p`
//! is `(sum over q <= p of (q + 1) * kept[q] + l) mod 997`, read through the page
//! table, so that a wrong page, a missing copy or a stale prefix shows in the
//! logits. With recurrent states it also keeps all inputs of each layer in the
//! sequence's state, which must be those that the pages say. [`logits_after`] is the same arithmetic over a plain list of tokens.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use realm_engine::engine::{Engine, EngineParts, Limits};
use realm_engine::requests::{
    Completion, EmbedOptions, EmbeddingRequest, Event, GenerationRequest, LayerRequest, LayerWork,
    Reply, RequestId, TextStream, Vocabulary,
};
use realm_engine::{Error, OpenSession, SamplingOptions, StopStrings};
use realm_ir::{
    BatchLimits, BatchView, Error as IrError, Program, ReadFuture, Rows, Session, Slot, SlotInfo,
};
use realm_model::{EmbeddingPlan, Pooling};

pub const N_LAYERS: usize = 2;
pub const N_VOCAB: usize = 40;
/// Ends an answer.
pub const END: u32 = 0;
/// The two bytes of `é`.
pub const E_ACUTE: [u32; 2] = [1, 2];
/// The token of letter `c`, `a` to `z`.
pub fn letter(c: char) -> u32 {
    c as u32 - 'a' as u32 + 3
}

pub fn letters(text: &str) -> Vec<u32> {
    text.chars().map(letter).collect()
}

const MODULUS: u64 = 997;
const HIDDEN: Slot = Slot(0);
const LOGITS: Slot = Slot(1);
const TAKEN: Slot = Slot(2);

pub fn program() -> Arc<Program> {
    let slots = vec![
        SlotInfo { width: 1, rows: Rows::Batch },
        SlotInfo { width: N_VOCAB, rows: Rows::Outputs },
        SlotInfo { width: 1, rows: Rows::Outputs },
    ];
    let segments = vec![Vec::new(); N_LAYERS + 2];
    Arc::new(Program {
        slots,
        weights: Vec::new(),
        segments,
        hidden: HIDDEN,
        carried: Vec::new(),
        logits: LOGITS,
    })
}

pub const LIMITS: Limits = Limits {
    context_length: 32,
    page_tokens: 4,
    n_pages: 24,
    max_rows: 8,
    max_outputs: 4,
    n_vocab: N_VOCAB,
    n_states: 0,
};

/// Few, so that prompts beside decoding take several batches.
pub const ROWS_BESIDE_DECODING: usize = 7;

/// Its hidden state is the number itself; there is no norm.
pub const EMBEDDING: EmbeddingPlan =
    EmbeddingPlan { hidden: TAKEN, scores: None, pooling: Pooling::Last, is_encoder: false };

fn head(state: u64, token: u64) -> f32 {
    let mixed = (state * 31 + token * 17 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as f32 / (1u64 << 22) as f32
}

fn layer(kept: impl Iterator<Item = u64>, index: usize) -> u64 {
    let sum: u64 = kept.enumerate().map(|(q, value)| (q as u64 + 1) * value).sum();
    (sum + index as u64) % MODULUS
}

/// Logits of the toy after `tokens`, without pages or batches.
pub fn logits_after(tokens: &[u32]) -> Vec<f32> {
    let last = state_after(tokens);
    (0..N_VOCAB as u64).map(|token| head(last, token)).collect()
}

/// Hidden state of the last token, without pages or batches.
fn state_after(tokens: &[u32]) -> u64 {
    let mut states: Vec<u64> = tokens.iter().map(|token| u64::from(*token)).collect();
    for index in 0..N_LAYERS {
        let kept = states.clone();
        for (p, state) in states.iter_mut().enumerate() {
            *state = layer(kept[..=p].iter().copied(), index);
        }
    }
    *states.last().expect("at least one token")
}

/// Last hidden state of the toy at each of `tokens`.
pub fn states_of(tokens: &[u32]) -> Vec<f32> {
    let states = |n: usize| -> f32 { state_after(&tokens[..n]) as f32 };
    (1..=tokens.len()).map(states).collect()
}

/// What the first layer gives for `inputs`, one per position.
pub fn first_layer(inputs: &[u32]) -> Vec<f32> {
    let kept = |n: usize| inputs[..n].iter().map(|input| u64::from(*input));
    (1..=inputs.len()).map(|n| layer(kept(n), 0) as f32).collect()
}

/// The greedy answer of the toy, with `forbidden` tokens left out.
pub fn greedy(prompt: &[u32], n: usize, forbidden: &[u32]) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..n {
        let logits = logits_after(&tokens);
        let allowed = (0..N_VOCAB as u32).filter(|token| !forbidden.contains(token));
        let best = allowed.max_by(|a, b| {
            let (x, y) = (logits[*a as usize], logits[*b as usize]);
            x.total_cmp(&y).then(b.cmp(a))
        });
        tokens.push(best.expect("a token"));
    }
    tokens.split_off(prompt.len())
}

/// What the toy was asked to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub segments: Range<usize>,
    /// Rows of each sequence.
    pub rows: Vec<usize>,
    pub n_outputs: usize,
}

/// Called before each run; may panic, wait, or set flags.
pub type Hook = Box<dyn FnMut(&Run, &BatchView<'_>) -> Result<(), IrError> + Send>;

/// What a test sees and decides while the toy runs.
#[derive(Default)]
pub struct Observer {
    pub runs: Vec<Run>,
    pub hook: Option<Hook>,
    /// Logits are replaced by this: token, logit.
    pub bias: Vec<(u32, f32)>,
    /// The best tokens of the next output rows, whatever their history.
    pub script: VecDeque<u32>,
    /// What the hidden states of output rows are read as, in place of what they are.
    pub hidden: Option<f32>,
    pub n_copied_pages: usize,
    /// Sessions that were opened in place of a dead one.
    pub n_reopened: usize,
    /// Whether no further sessions can be opened.
    pub is_gone: bool,
}

pub struct Toy {
    limits: BatchLimits,
    max_outputs: usize,
    /// Page, layer, position.
    kept: Vec<Vec<Vec<u64>>>,
    hidden: Vec<f32>,
    /// Hidden state of the output rows.
    taken: Vec<f32>,
    logits: Vec<f32>,
    pub observer: Arc<Mutex<Observer>>,
    /// `[state][layer]`: every input so far.
    states: Vec<Vec<Vec<u64>>>,
    /// A run of it ended in a panic: nothing that it holds can be relied on.
    is_dead: bool,
}

impl Toy {
    pub fn new(limits: &Limits, observer: Arc<Mutex<Observer>>) -> Self {
        let page = vec![vec![u64::MAX; limits.page_tokens]; N_LAYERS];
        Toy {
            limits: BatchLimits {
                max_rows: limits.max_rows,
                max_outputs: limits.max_outputs,
                n_vocab: N_VOCAB,
                page_tokens: limits.page_tokens,
                n_pages: limits.n_pages,
                n_states: limits.n_states,
            },
            states: vec![vec![Vec::new(); N_LAYERS]; limits.n_states],
            max_outputs: limits.max_outputs,
            kept: vec![page; limits.n_pages],
            hidden: vec![0.0; limits.max_rows],
            taken: Vec::new(),
            logits: Vec::new(),
            observer,
            is_dead: false,
        }
    }

    fn run_layer(&mut self, index: usize, batch: &BatchView<'_>) {
        let page_tokens = self.limits.page_tokens;
        let mut written: Vec<(u32, usize)> = Vec::new();
        for (number, sequence) in batch.sequences.iter().enumerate() {
            for row in sequence.first_row..sequence.first_row + sequence.n_rows {
                let position = batch.positions[row] as usize;
                let page = sequence.pages[position / page_tokens];
                let other = written.iter().find(|(p, n)| *p == page && *n != number);
                assert!(other.is_none(), "two sequences write to page {page}");
                written.push((page, number));
                self.kept[page as usize][index][position % page_tokens] = self.hidden[row] as u64;
                let kept = (0..=position).map(|q| {
                    let page = sequence.pages[q / page_tokens] as usize;
                    self.kept[page][index][q % page_tokens]
                });
                let kept: Vec<u64> = kept.collect();
                if let Some(state) = self.states.get_mut(sequence.state as usize) {
                    let inputs = &mut state[index];
                    if position == 0 {
                        inputs.clear();
                    }
                    inputs.push(self.hidden[row] as u64);
                    assert_eq!(*inputs, kept, "a state does not belong to its sequence");
                }
                assert!(!kept.contains(&u64::MAX), "a position that was never written is read");
                self.hidden[row] = layer(kept.into_iter(), index) as f32;
            }
        }
    }

    /// What is in a page is unspecified after a run that did not complete.
    fn spoil(&mut self, batch: &BatchView<'_>) {
        for sequence in batch.sequences {
            if let Some(state) = self.states.get_mut(sequence.state as usize) {
                state.iter_mut().for_each(|inputs| inputs.push(500));
            }
            for row in sequence.first_row..sequence.first_row + sequence.n_rows {
                let page = sequence.pages[batch.positions[row] as usize / self.limits.page_tokens];
                for kept in self.kept[page as usize].iter_mut().flatten() {
                    *kept = 500;
                }
            }
        }
    }
}

impl Session for Toy {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<(), IrError> {
        batch.check(&self.limits)?;
        let rows = batch.sequences.iter().map(|sequence| sequence.n_rows).collect();
        let n_outputs = batch.output_rows.len();
        let run = Run { segments: segments.clone(), rows, n_outputs };
        let mut observer = self.observer.lock().expect("no test panics while it holds this");
        observer.runs.push(run.clone());
        let bias = observer.bias.clone();
        let script: Vec<Option<u32>> = match segments.end == N_LAYERS + 2 {
            true => (0..n_outputs).map(|_| observer.script.pop_front()).collect(),
            false => Vec::new(),
        };
        let hook = observer.hook.take();
        drop(observer);
        assert!(!self.is_dead, "a session is used that broke down");
        if let Some(mut hook) = hook {
            self.is_dead = true;
            let result = hook(&run, batch);
            self.is_dead = false;
            self.observer.lock().unwrap().hook.get_or_insert(hook);
            if result.is_err() {
                self.spoil(batch);
                return result;
            }
        }
        if batch.is_interrupted() {
            self.spoil(batch);
            return Err(IrError::Interrupted);
        }
        for segment in segments {
            match segment {
                0 => {
                    for (hidden, token) in self.hidden.iter_mut().zip(batch.tokens) {
                        *hidden = *token as f32;
                    }
                }
                _ if segment <= N_LAYERS => self.run_layer(segment - 1, batch),
                _ => {
                    assert!(n_outputs > 0, "the head was run for nothing");
                    self.logits.clear();
                    let taken = batch.output_rows.iter().map(|row| self.hidden[*row as usize]);
                    self.taken = taken.collect();
                    for (row, scripted) in batch.output_rows.iter().zip(&script) {
                        let state = self.hidden[*row as usize] as u64;
                        let start = self.logits.len();
                        self.logits.extend((0..N_VOCAB as u64).map(|token| head(state, token)));
                        for (token, logit) in &bias {
                            self.logits[start + *token as usize] = *logit;
                        }
                        if let Some(token) = scripted {
                            self.logits[start + *token as usize] = 1e6;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<(), IrError> {
        assert_eq!(slot, HIDDEN);
        self.hidden[..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        let (from, width) = match slot {
            HIDDEN => (&self.hidden, 1),
            TAKEN => (&self.taken, 1),
            _ => (&self.logits, N_VOCAB),
        };
        assert!(slot == HIDDEN || rows.end <= self.max_outputs);
        out.copy_from_slice(&from[rows.start * width..rows.end * width]);
        if slot == TAKEN
            && let Some(hidden) = self.observer.lock().unwrap().hidden
        {
            out.fill(hidden);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<(), IrError> {
        self.kept[to as usize] = self.kept[from as usize].clone();
        self.observer.lock().unwrap().n_copied_pages += 1;
        Ok(())
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<(), IrError> {
        self.states[to as usize] = self.states[from as usize].clone();
        Ok(())
    }
}

/// What a layer call gives.
pub type LayerResult = Result<Vec<f32>, Error>;

/// A reply, and where its result comes out.
pub fn reply<T: Send + 'static>() -> (Reply<T>, mpsc::Receiver<Result<T, Error>>) {
    let (sender, result) = mpsc::channel();
    (Reply::new(move |result| drop(sender.send(result))), result)
}

/// Opens toys in place of a dead one, as long as the observer lets it.
fn opener(limits: Limits, observer: Arc<Mutex<Observer>>) -> OpenSession {
    Box::new(move || {
        let mut seen = observer.lock().unwrap();
        if seen.is_gone {
            let reason = "it is gone".to_owned();
            return Err(IrError::Unavailable { backend: "toy", reason }.into());
        }
        seen.n_reopened += 1;
        drop(seen);
        Ok(Box::new(Toy::new(&limits, observer.clone())))
    })
}

/// Letters, and `é` in two tokens.
pub struct ToyVocabulary {
    /// Never chosen.
    pub suppressed: Vec<u32>,
}

impl Vocabulary for ToyVocabulary {
    fn end_of_generation_tokens(&self) -> &[u32] {
        &[END]
    }

    fn suppressed_tokens(&self) -> &[u32] {
        &self.suppressed
    }

    fn text_stream(&self) -> Box<dyn TextStream> {
        Box::new(ToyText::default())
    }
}

#[derive(Default)]
struct ToyText(Vec<u8>);

impl TextStream for ToyText {
    fn push(&mut self, token: u32) -> String {
        match token {
            1 => self.0.push(0xc3),
            2 => self.0.push(0xa9),
            _ => self.0.push(b'a' + ((token + 23) % 26) as u8),
        }
        match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => String::new(),
            _ => self.finish(),
        }
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned()
    }
}

/// An engine over a toy, with what a test needs around it.
pub struct Bench {
    pub engine: Engine,
    pub observer: Arc<Mutex<Observer>>,
    pub stop: Arc<AtomicBool>,
    pub events: Vec<(RequestId, Event)>,
    next: u64,
}

impl Bench {
    pub fn new() -> Self {
        Bench::with(LIMITS)
    }

    pub fn with(limits: Limits) -> Self {
        Bench::made_of(limits, EMBEDDING, Vec::new())
    }

    /// Whose vocabulary never chooses `suppressed` tokens.
    pub fn suppressing(suppressed: Vec<u32>) -> Self {
        Bench::made_of(LIMITS, EMBEDDING, suppressed)
    }

    pub fn made_of(limits: Limits, embedding: EmbeddingPlan, suppressed: Vec<u32>) -> Self {
        let observer = Arc::<Mutex<Observer>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let engine = Engine::new(EngineParts {
            session: Box::new(Toy::new(&limits, observer.clone())),
            open_session: opener(limits, observer.clone()),
            program: program(),
            embedding,
            vocabulary: Arc::new(ToyVocabulary { suppressed }),
            limits,
            rows_beside_decoding: ROWS_BESIDE_DECODING,
            stop: stop.clone(),
            clock: || 0.0,
        });
        Bench { engine, observer, stop, events: Vec::new(), next: 0 }
    }

    pub fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next - 1)
    }

    pub fn start(&mut self, request: GenerationRequest) -> RequestId {
        let id = self.next_id();
        self.engine.generate(id, request);
        id
    }

    /// One step, after which every page and every state must be accounted for.
    pub fn step(&mut self) {
        pollster::block_on(self.engine.step());
        self.engine.check().unwrap();
        self.events.extend(self.engine.take_events());
    }

    /// Steps until nothing is left to do.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            if self.engine.is_idle() {
                self.events.extend(self.engine.take_events());
                return;
            }
            self.step();
        }
        panic!("no end after 10000 steps");
    }

    pub fn generate(&mut self, request: GenerationRequest) -> Result<Completion, Arc<Error>> {
        let id = self.start(request);
        self.run();
        self.result(id)
    }

    pub fn start_embedding(
        &mut self,
        request: EmbeddingRequest,
    ) -> mpsc::Receiver<Result<Vec<Vec<f32>>, Error>> {
        let id = self.next_id();
        let (reply, result) = reply();
        self.engine.embed(id, request, reply);
        result
    }

    pub fn embed(
        &mut self,
        texts: &[Vec<u32>],
        options: EmbedOptions,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let (texts, abort) = (texts.to_vec(), Arc::default());
        let result = self.start_embedding(EmbeddingRequest { texts, options, abort });
        self.wait(&result)
    }

    pub fn start_layers(&mut self, request: LayerRequest) -> mpsc::Receiver<LayerResult> {
        let id = self.next_id();
        let (reply, result) = reply();
        self.engine.run_layers(id, request, reply);
        result
    }

    fn layers(&mut self, work: LayerWork) -> LayerResult {
        let result = self.start_layers(LayerRequest { work, abort: Arc::default() });
        self.wait(&result)
    }

    /// Steps until an answer is there.
    pub fn wait<T>(&mut self, result: &mpsc::Receiver<T>) -> T {
        for _ in 0..10_000 {
            match result.try_recv() {
                Ok(result) => return result,
                Err(_) => self.step(),
            }
        }
        panic!("no answer after 10000 steps");
    }

    pub fn embed_tokens(&mut self, tokens: &[u32]) -> LayerResult {
        self.layers(LayerWork::EmbedTokens { tokens: tokens.to_vec(), position: 0 })
    }

    pub fn forward_layer(
        &mut self,
        layer: usize,
        hidden: &[f32],
        position: usize,
        sequence: u32,
    ) -> LayerResult {
        let hidden = hidden.to_vec();
        self.layers(LayerWork::Forward { layer, hidden, position, sequence })
    }

    pub fn compute_logits(&mut self, hidden: &[f32]) -> LayerResult {
        self.layers(LayerWork::ComputeLogits(hidden.to_vec()))
    }

    pub fn drop_layer_sequence(&mut self, sequence: u32) {
        let id = self.next_id();
        self.engine.drop_layer_sequence(id, sequence);
    }

    /// How a generation ended; its chunks must add up to its result.
    pub fn result(&self, id: RequestId) -> Result<Completion, Arc<Error>> {
        let mut text = String::new();
        let mut tokens = Vec::new();
        let mut end = None;
        for (_, event) in self.events.iter().filter(|(of, _)| *of == id) {
            assert!(end.is_none(), "an event after the end");
            match event {
                Event::Chunk(chunk) => {
                    assert_eq!(chunk.index, tokens.len());
                    text.push_str(&chunk.text);
                    tokens.extend_from_slice(&chunk.tokens);
                }
                Event::End(completion) => {
                    assert_eq!((&text, &tokens), (&completion.text, &completion.tokens));
                    end = Some(Ok(completion.clone()));
                }
                Event::Error(error) => end = Some(Err(error.clone())),
            }
        }
        end.expect("an end or an error")
    }

    pub fn runs(&self) -> Vec<Run> {
        self.observer.lock().unwrap().runs.clone()
    }

    /// Replaces logits: `token` always has `logit`.
    pub fn bias(&self, token: u32, logit: f32) {
        self.observer.lock().unwrap().bias.push((token, logit));
    }

    /// Makes the next answers come out as `tokens`.
    pub fn script(&self, tokens: &[u32]) {
        self.observer.lock().unwrap().script.extend(tokens);
    }

    pub fn hook(
        &self,
        hook: impl FnMut(&Run, &BatchView<'_>) -> Result<(), IrError> + Send + 'static,
    ) {
        self.observer.lock().unwrap().hook.replace(Box::new(hook));
    }
}

/// Stop strings of a request.
pub fn stops(stops: &[&str]) -> StopStrings {
    let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
    StopStrings::new(&stops).unwrap()
}

/// A greedy request for `n` tokens that never ends by itself.
pub fn request(prompt: &[u32], n: usize) -> GenerationRequest {
    GenerationRequest {
        prompt: prompt.to_vec(),
        sampling: SamplingOptions::default(),
        max_tokens: n,
        min_tokens: 0,
        ignore_eos: true,
        stop: StopStrings::default(),
        echo: None,
        sequence: None,
        adapters: None,
        abort: Arc::new(AtomicBool::new(false)),
    }
}

pub fn abort(request: &GenerationRequest) -> impl Fn() + Send + 'static {
    let flag = request.abort.clone();
    move || flag.store(true, Ordering::Relaxed)
}
