//! Random requests of every kind, in random order, with too little room: nothing leaks,
//! everybody gets on, and everybody gets what they would get alone.

mod toy;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use proptest::prelude::*;
use realm_engine::engine::Limits;
use realm_engine::requests::{
    Allowance, EmbedOptions, EmbeddingRequest, FinishReason, GenerationRequest, LayerRequest,
    LayerWork, RequestId,
};
use realm_engine::{Coded, Error, ErrorCode, Prepared};
use realm_model::Pooling;
use toy::*;

/// Something that a program does.
#[derive(Clone, Debug)]
enum Act {
    /// A prompt that shares its first tokens with others, on one of the kept sequences or none.
    Generate {
        shared: usize,
        own: Vec<u32>,
        n: usize,
        kept: Option<usize>,
        delay: usize,
        /// Tokens that the answer may have before anybody reads it.
        allowed: usize,
    },
    /// Reads the tokens of an answer, which may have so many more.
    Read {
        which: usize,
        n: usize,
    },
    Embed {
        texts: Vec<Vec<u32>>,
        pooling: Pooling,
    },
    /// Goes on with the first layer of a sequence, or begins it anew.
    Forward {
        sequence: u32,
        tokens: Vec<u32>,
        anew: bool,
    },
    DropLayers {
        sequence: u32,
    },
    Open,
    Fork {
        which: usize,
    },
    Close {
        which: usize,
    },
    Abort {
        which: usize,
        in_the_middle: bool,
    },
    Steps(usize),
}

fn tokens(n: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(3u32..29, n)
}

fn act() -> impl Strategy<Value = Act> {
    let pooling = prop_oneof![
        Just(Pooling::None),
        Just(Pooling::Mean),
        Just(Pooling::Cls),
        Just(Pooling::Last),
    ];
    let kept = proptest::option::of(0usize..4);
    let allowed = prop_oneof![Just(usize::MAX), 1usize..12];
    prop_oneof![
        4 => (0usize..12, tokens(1..8), 0usize..12, kept, 0usize..4, allowed).prop_map(
            |(shared, own, n, kept, delay, allowed)| {
                Act::Generate { shared, own, n, kept, delay, allowed }
            },
        ),
        2 => (0usize..8, 1usize..6).prop_map(|(which, n)| Act::Read { which, n }),
        2 => (proptest::collection::vec(tokens(1..20), 1..5), pooling)
            .prop_map(|(texts, pooling)| Act::Embed { texts, pooling }),
        2 => (0u32..2, tokens(1..5), any::<bool>())
            .prop_map(|(sequence, tokens, anew)| Act::Forward { sequence, tokens, anew }),
        1 => (0u32..2).prop_map(|sequence| Act::DropLayers { sequence }),
        2 => Just(Act::Open),
        2 => (0usize..4).prop_map(|which| Act::Fork { which }),
        1 => (0usize..4).prop_map(|which| Act::Close { which }),
        2 => (0usize..8, any::<bool>())
            .prop_map(|(which, in_the_middle)| Act::Abort { which, in_the_middle }),
        4 => (0usize..6).prop_map(Act::Steps),
    ]
}

/// Enough for one full sequence and two of layers, and for little more.
fn limits() -> impl Strategy<Value = Limits> {
    (12usize..26, prop_oneof![Just(0usize), 1usize..7]).prop_map(|(n_pages, n_states)| Limits {
        n_pages,
        n_states,
        ..LIMITS
    })
}

struct Answer {
    id: RequestId,
    prompt: Vec<u32>,
    n: usize,
    kept: Option<u32>,
    abort: Arc<AtomicBool>,
    allowance: Allowance,
    allowed: usize,
}

struct Vectors {
    texts: Vec<Vec<u32>>,
    pooling: Pooling,
    result: mpsc::Receiver<Result<Vec<Vec<f32>>, Error>>,
    abort: Arc<AtomicBool>,
}

struct LayerCall {
    /// Inputs of the layer at all positions, and how many of them were there before.
    inputs: Vec<u32>,
    from: usize,
    result: mpsc::Receiver<LayerResult>,
}

/// What was asked for, and what is to come of it.
struct Program {
    bench: Bench,
    base: Vec<u32>,
    answers: Vec<Answer>,
    vectors: Vec<Vectors>,
    layer_calls: Vec<LayerCall>,
    /// Kept sequences that are open.
    open: Vec<u32>,
    n_opened: u32,
    /// Inputs of the first layer, by sequence of layers.
    layers: BTreeMap<u32, Vec<u32>>,
    /// Prompts that come in so many steps.
    delayed: Vec<(usize, RequestId, Vec<u32>)>,
    /// Set while the next batch runs.
    doomed: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
    may_use_layers: bool,
    n_steps: usize,
    /// Rows of everything that was asked for: nobody needs more steps than that.
    n_rows: usize,
    /// How often an answer could go on that may have waited: others may begin anew then.
    n_reads: usize,
}

impl Program {
    fn new(limits: Limits) -> Self {
        let bench = Bench::with(limits);
        let doomed = Arc::<Mutex<Vec<Arc<AtomicBool>>>>::default();
        let flags = doomed.clone();
        bench.hook(move |_, _| {
            flags.lock().unwrap().drain(..).for_each(|flag| flag.store(true, Ordering::Release));
            Ok(())
        });
        Program {
            bench,
            base: letters("thequickbrownfox"),
            answers: Vec::new(),
            vectors: Vec::new(),
            layer_calls: Vec::new(),
            open: Vec::new(),
            n_opened: 0,
            layers: BTreeMap::new(),
            delayed: Vec::new(),
            doomed,
            // Sequences of layers never give anything up, so something must be left.
            may_use_layers: limits.n_states == 0 || limits.n_states > 2,
            n_steps: 0,
            n_rows: 0,
            n_reads: 0,
        }
    }

    fn do_it(&mut self, act: Act) {
        match act {
            Act::Generate { shared, own, n, kept, delay, allowed } => {
                let prompt = [&self.base[..shared], &own].concat();
                self.generate(prompt, n, kept, delay, allowed);
            }
            Act::Read { which, n } => self.read(which, n),
            Act::Embed { texts, pooling } => {
                self.n_rows += texts.iter().map(Vec::len).sum::<usize>() + 1;
                let abort = Arc::new(AtomicBool::new(false));
                let options = EmbedOptions { pooling, normalize: false };
                let request =
                    EmbeddingRequest { texts: texts.clone(), options, abort: abort.clone() };
                let result = self.bench.start_embedding(request);
                self.vectors.push(Vectors { texts, pooling, result, abort });
            }
            Act::Forward { sequence, tokens, anew } if self.may_use_layers => {
                self.forward(sequence, tokens, anew);
            }
            Act::Forward { .. } => {}
            Act::DropLayers { sequence } => {
                self.n_rows += 1;
                self.layers.remove(&sequence);
                self.bench.drop_layer_sequence(sequence);
            }
            Act::Open => {
                self.bench.engine.open_sequence(self.n_opened).unwrap();
                self.opened();
            }
            Act::Fork { which } => {
                if let Some(from) = self.open.get(which) {
                    self.bench.engine.fork_sequence(*from, self.n_opened).unwrap();
                    self.opened();
                }
            }
            Act::Close { which } => {
                if which < self.open.len() {
                    self.bench.engine.close_sequence(self.open.remove(which)).unwrap();
                }
            }
            Act::Abort { which, in_the_middle } => {
                let flags = self.answers.iter().map(|answer| &answer.abort);
                let flags = flags.chain(self.vectors.iter().map(|vectors| &vectors.abort));
                let Some(flag) = flags.rev().nth(which) else { return };
                match in_the_middle {
                    true => self.doomed.lock().unwrap().push(flag.clone()),
                    false => flag.store(true, Ordering::Release),
                }
            }
            Act::Steps(n) => (0..n).for_each(|_| self.step()),
        }
        self.bench.engine.check().unwrap();
    }

    fn opened(&mut self) {
        self.open.push(self.n_opened);
        self.n_opened += 1;
    }

    /// Lets one of the last answers have `n` more tokens.
    fn read(&mut self, which: usize, n: usize) {
        if let Some(answer) = self.answers.iter_mut().rev().nth(which) {
            answer.allowed = answer.allowed.saturating_add(n);
            answer.allowance.raise(answer.allowed);
            self.n_reads += 1;
        }
    }

    fn generate(
        &mut self,
        prompt: Vec<u32>,
        n: usize,
        kept: Option<usize>,
        delay: usize,
        allowed: usize,
    ) {
        let kept = kept.and_then(|which| self.open.get(which).copied());
        let is_busy =
            kept.is_some() && self.answers.iter().any(|a| a.kept == kept && !self.is_over(a.id));
        if is_busy {
            return;
        }
        let id = self.bench.next_id();
        let allowance = Allowance::new(allowed);
        let request = GenerationRequest {
            sequence: kept,
            allowance: allowance.clone(),
            ..request(&prompt, n)
        };
        let abort = request.abort.clone();
        if delay > 0 {
            assert!(self.bench.engine.register_generation(id, request));
            self.delayed.push((delay, id, prompt.clone()));
        } else {
            self.bench.engine.generate(id, request);
        }
        self.n_rows += prompt.len() + n + 1;
        self.answers.push(Answer { id, prompt, n, kept, abort, allowance, allowed });
    }

    fn is_over(&self, id: RequestId) -> bool {
        let events = self.bench.events.iter().filter(|(of, _)| *of == id);
        events
            .into_iter()
            .any(|(_, event)| !matches!(event, realm_engine::requests::Event::Chunk(_)))
    }

    fn forward(&mut self, sequence: u32, tokens: Vec<u32>, anew: bool) {
        let held = self.layers.entry(sequence).or_default();
        if anew || held.len() + tokens.len() > 8 {
            held.clear();
        }
        let from = held.len();
        held.extend(&tokens);
        let inputs = held.clone();
        self.n_rows += tokens.len() + 1;
        let hidden = tokens.iter().map(|token| *token as f32).collect();
        let work = LayerWork::Forward { layer: 0, hidden, position: from, sequence };
        let result = self.bench.start_layers(LayerRequest { work, abort: Arc::default() });
        self.layer_calls.push(LayerCall { inputs, from, result });
    }

    fn step(&mut self) {
        for (left, id, prompt) in &mut self.delayed {
            *left -= 1;
            if *left == 0 {
                let prompt = Prepared { tokens: prompt.clone(), text: None };
                self.bench.engine.prepared(*id, Ok(vec![prompt]));
            }
        }
        self.delayed.retain(|(left, ..)| *left > 0);
        let had_work = !self.bench.engine.is_idle();
        self.bench.step();
        self.n_steps += usize::from(had_work);
    }

    /// Runs until there is nothing to do.
    fn run(&mut self) {
        while !self.bench.engine.is_idle() || !self.delayed.is_empty() {
            self.step();
            let most = self.n_rows * (1 + self.n_reads);
            assert!(self.n_steps <= most, "a step in which the oldest made no progress");
        }
    }

    /// Runs to the end, lets go of everything, and compares.
    fn finish(mut self, limits: Limits) {
        self.run();
        (0..self.answers.len()).for_each(|which| self.read(which, usize::MAX));
        self.run();
        for answer in &self.answers {
            let want = greedy(&answer.prompt, answer.n, &[END]);
            let got = self.bench.result(answer.id).unwrap_or_else(|error| panic!("{error}"));
            match got.finish_reason {
                FinishReason::Abort => assert!(want.starts_with(&got.tokens)),
                _ => assert_eq!(got.tokens, want),
            }
        }
        for vectors in &self.vectors {
            match vectors.result.recv().unwrap() {
                Ok(got) => {
                    let texts = vectors.texts.iter();
                    let want: Vec<_> = texts.map(|text| pooled(text, vectors.pooling)).collect();
                    assert_eq!(got, want);
                }
                Err(error) => assert_eq!(error.code(), ErrorCode::Aborted, "{error}"),
            }
        }
        for call in &self.layer_calls {
            let got = call.result.recv().unwrap().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(got, first_layer(&call.inputs)[call.from..]);
        }
        self.open.iter().for_each(|id| self.bench.engine.close_sequence(*id).unwrap());
        (0..2).for_each(|sequence| self.bench.drop_layer_sequence(sequence));
        self.bench.engine.check().unwrap();
        let free = (self.bench.engine.n_free_pages(), self.bench.engine.n_free_states());
        assert_eq!(free, (limits.n_pages, limits.n_states), "something leaked");
    }
}

/// The vector of a text that is alone.
fn pooled(text: &[u32], pooling: Pooling) -> Vec<f32> {
    let states = states_of(text);
    match pooling {
        Pooling::None => states,
        Pooling::Cls => vec![states[0]],
        Pooling::Mean => {
            let sum: f64 = states.iter().map(|state| f64::from(*state)).sum();
            vec![(sum / states.len() as f64) as f32]
        }
        _ => vec![states[states.len() - 1]],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn whoever_asks_for_what_gets_what_they_would_get_alone_and_nothing_is_lost(
        limits in limits(),
        acts in proptest::collection::vec(act(), 1..40),
    ) {
        let mut program = Program::new(limits);
        acts.into_iter().for_each(|act| program.do_it(act));
        program.finish(limits);
    }
}

/// An encoder with room for two texts of eight tokens.
fn encoder() -> Bench {
    let embedding = realm_model::EmbeddingPlan { is_encoder: true, ..EMBEDDING };
    Bench::made_of(Limits { max_rows: 16, ..LIMITS }, embedding, Vec::new())
}

proptest! {
    #[test]
    fn an_encoder_reads_every_text_whole_whoever_else_asks(
        requests in proptest::collection::vec(
            proptest::collection::vec(tokens(1..17), 1..6),
            1..5,
        ),
    ) {
        let mut bench = encoder();
        bench.hook(|_, batch| {
            let starts = batch.sequences.iter().map(|s| batch.positions[s.first_row]);
            assert!(starts.into_iter().all(|position| position == 0), "a text was cut");
            Ok(())
        });
        let options = EmbedOptions { pooling: Pooling::Mean, normalize: false };
        let started: Vec<_> = requests
            .iter()
            .map(|texts| {
                let (texts, abort) = (texts.clone(), Arc::default());
                bench.start_embedding(EmbeddingRequest { texts, options, abort })
            })
            .collect();
        bench.run();
        for (texts, result) in requests.iter().zip(started) {
            let want: Vec<_> = texts.iter().map(|text| pooled(text, Pooling::Mean)).collect();
            prop_assert_eq!(result.recv().unwrap().unwrap(), want);
        }
        prop_assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
    }
}

#[test]
fn a_short_text_of_an_encoder_does_not_wait_for_all_the_long_ones_before_it() {
    let mut bench = encoder();
    let options = EmbedOptions { pooling: Pooling::Mean, normalize: false };
    let request = |texts| EmbeddingRequest { texts, options, abort: Arc::default() };
    let long = bench.start_embedding(request(vec![vec![5; 16]; 10]));
    let short = bench.start_embedding(request(vec![vec![6; 9]]));
    (0..2).for_each(|_| bench.step());
    assert!(short.try_recv().is_ok(), "it came second, and had its turn in the second batch");
    assert!(long.try_recv().is_err());
    bench.run();
    assert_eq!(long.recv().unwrap().unwrap().len(), 10);
}
