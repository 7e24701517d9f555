//! A backend so small that every logit can be worked out by hand, and strict
//! about what it is asked.
//!
//! Layer `l` keeps one number per position: its input. Its output at position `p`
//! is `(sum over q <= p of (q + 1) * kept[q] + l) mod 997`, read through the page
//! table, so that a wrong page, a missing copy or a stale prefix shows in the
//! logits. With recurrent states it also keeps all inputs of each layer in the
//! sequence's state, which must be those that the pages say. [`logits_after`] is the same arithmetic over a plain list of tokens.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod bench;
mod vocabulary;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use realm_engine::engine::Limits;
use realm_ir::{
    BatchLimits, BatchView, Error as IrError, Program, ReadFuture, Rows, Session, Slot, SlotInfo,
};
use realm_model::{EmbeddingPlan, Pooling};

pub use bench::*;

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
