//! An engine over the toy, and what tests ask of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use realm_engine::engine::{Engine, EngineParts, Limits};
use realm_engine::requests::{
    Allowance, Completion, EmbedOptions, EmbeddingRequest, Event, GenerationRequest, LayerRequest,
    LayerWork, Reply, RequestId,
};
use realm_engine::{Error, OpenSession, SamplingOptions, StopStrings};
use realm_ir::{BatchView, Error as IrError};
use realm_model::EmbeddingPlan;

use super::vocabulary::ToyVocabulary;
use super::{EMBEDDING, LIMITS, Observer, ROWS_BESIDE_DECODING, Run, Toy, program};

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
        allowance: Allowance::default(),
    }
}

pub fn abort(request: &GenerationRequest) -> impl Fn() + Send + 'static {
    let flag = request.abort.clone();
    move || flag.store(true, Ordering::Relaxed)
}
