//! A few steps alone: a small program, what its slots hold, and calls that go on with what
//! earlier calls stored.

use std::ops::Range;
use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Backend, BatchView, KvLayer, KvType, Program, Rows, SequenceView, Slot, SlotInfo, Step,
    WeightRef,
};

use crate::program::{Model, Size};
use crate::random::{self, Random};

/// Most rows of a call.
pub const MAX_ROWS: usize = 48;

/// Entries of a vocabulary that all tokens are of.
pub const N_VOCAB: usize = 16;

/// Rows of two sequences in each call: prefill of both, decode of both, prefill beside
/// decode, and one sequence alone.
const CALLS: [[usize; 2]; 4] = [[9, 3], [1, 1], [2, MAX_ROWS - 2], [1, 0]];

/// Pages of the two sequences, in no order.
const PAGES: [[u32; 13]; 2] = [
    [6, 2, 30, 4, 11, 0, 25, 24, 23, 22, 21, 20, 19],
    [1, 9, 3, 31, 7, 8, 5, 10, 12, 13, 14, 15, 16],
];

/// Slots, weights and steps of one small program.
#[derive(Clone, Debug)]
pub struct Bench {
    random: Random,
    slots: Vec<SlotInfo>,
    weights: Vec<TensorData>,
    /// What [`KvLayer`]s the steps refer to.
    pub kv_layers: Vec<KvLayer>,
    /// Storage of keys and values.
    pub kv_type: KvType,
    /// Factor on the random values of all slots.
    pub spread: f32,
    /// Rows of the two sequences in each call.
    pub calls: Vec<[usize; 2]>,
    /// Positions of a page; a sequence has 13 pages.
    pub page_tokens: usize,
}

impl Bench {
    /// Nothing yet.
    pub fn new(seed: u64) -> Self {
        Bench {
            random: Random::new(seed),
            slots: vec![],
            weights: vec![],
            kv_layers: vec![],
            kv_type: KvType::F32,
            spread: 1.0,
            calls: CALLS.to_vec(),
            page_tokens: 4,
        }
    }

    /// A slot for the rows of a batch.
    pub fn slot(&mut self, width: usize) -> Slot {
        self.slots.push(SlotInfo { width, rows: Rows::Batch });
        Slot(self.slots.len() - 1)
    }

    /// A slot for the output rows of a batch: every other row.
    pub fn output_slot(&mut self, width: usize) -> Slot {
        self.slots.push(SlotInfo { width, rows: Rows::Outputs });
        Slot(self.slots.len() - 1)
    }

    /// Weights whose products with a row of values around 1 are around 1.
    pub fn matrix(&mut self, shape: &[usize], ty: TensorType) -> WeightRef {
        self.weight(shape, ty, 1.0 / (shape[0] as f32).sqrt())
    }

    /// F32 values around 1, of any shape.
    pub fn values(&mut self, shape: &[usize]) -> WeightRef {
        self.weight(shape, TensorType::F32, 1.0)
    }

    /// F32 values below zero, of any shape.
    ///
    /// # Panics
    /// When the shape is not one of a tensor.
    pub fn negative_values(&mut self, shape: &[usize]) -> WeightRef {
        let values = self.random.normals(shape.iter().product());
        let bytes = values.iter().flat_map(|value| (-value.abs()).to_le_bytes()).collect();
        let name = format!("weight {}", self.weights.len());
        let tensor = TensorData::from_vec(&name, shape, TensorType::F32, bytes);
        self.push(tensor.expect("the shape of a tensor"))
    }

    fn weight(&mut self, shape: &[usize], ty: TensorType, deviation: f32) -> WeightRef {
        let name = format!("weight {}", self.weights.len());
        let tensor = random::tensor(&mut self.random, &name, shape, ty, deviation);
        self.push(tensor)
    }

    /// A weight as it is.
    pub fn push(&mut self, tensor: TensorData) -> WeightRef {
        self.weights.push(tensor);
        WeightRef(self.weights.len() - 1)
    }

    /// Makes the calls, each over fresh random values in all slots: what `outs` hold after
    /// each call, one after another.
    ///
    /// # Panics
    /// When the backend refuses or fails.
    pub fn run(&self, backend: &dyn Backend, steps: &[Step], outs: &[Slot]) -> Vec<f32> {
        pollster::block_on(self.results(backend, steps, outs))
    }

    /// [`Bench::run`] for who cannot block.
    ///
    /// # Panics
    /// When the backend refuses or fails.
    pub async fn results(&self, backend: &dyn Backend, steps: &[Step], outs: &[Slot]) -> Vec<f32> {
        let mut slots = self.slots.clone();
        slots.push(SlotInfo { width: 1, rows: Rows::Outputs });
        let program = Program {
            hidden: Slot(0),
            logits: Slot(slots.len() - 1),
            slots,
            weights: self.weights.clone(),
            // All that there is, and a head of nothing.
            segments: vec![steps.to_vec(), vec![]],
            carried: vec![],
        };
        let model = Model { program: Arc::new(program), kv_layers: self.kv_layers.clone() };
        let size = Size {
            n_pages: 32,
            page_tokens: self.page_tokens,
            kv_type: self.kv_type,
            max_rows: MAX_ROWS,
            max_outputs: MAX_ROWS,
            ..Size::default()
        };
        let mut session = model.open(backend, size).expect("the steps can be run");
        let mut random = Random::new(99);
        let mut results = Vec::new();
        let mut starts = [0, 0];
        // Without an embedding there is no vocabulary that tokens could be of.
        let embeds = steps.iter().any(|step| matches!(step, Step::Embed(_)));
        for counts in &self.calls {
            let n_rows = counts[0] + counts[1];
            for (index, slot) in self.slots.iter().enumerate() {
                let mut values = random.normals(n_rows * slot.width);
                values.iter_mut().for_each(|value| *value *= self.spread);
                session.write(Slot(index), &values).expect("the slots have that many rows");
            }
            let spans = [0, 1].map(|i| starts[i]..starts[i] + counts[i]);
            let call = Call::new(&spans, &mut random);
            let batch = BatchView {
                tokens: if embeds { &call.tokens } else { &[] },
                positions: &call.positions,
                sequences: &call.sequences,
                output_rows: &call.output_rows,
                interrupt: None,
            };
            session.run(0..1, &batch).expect("the steps run");
            starts = spans.map(|span| span.end);
            for out in outs {
                let n_rows = match self.slots[out.0].rows {
                    Rows::Batch => n_rows,
                    Rows::Outputs => call.output_rows.len(),
                };
                let first = results.len();
                results.resize(first + n_rows * self.slots[out.0].width, 0.0);
                let read = session.read(*out, 0..n_rows, &mut results[first..]);
                read.await.expect("a slot can be read");
            }
        }
        results
    }
}

/// What a batch of both sequences borrows.
struct Call {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    sequences: Vec<SequenceView<'static>>,
    output_rows: Vec<u32>,
}

impl Call {
    /// A call of these positions of each sequence.
    fn new(spans: &[Range<usize>; 2], random: &mut Random) -> Self {
        let mut first_row = 0;
        let mut sequences = Vec::new();
        for (index, span) in spans.iter().enumerate() {
            let (n_rows, pages, state) = (span.len(), &PAGES[index], 1 - index as u32);
            sequences.push(SequenceView { first_row, n_rows, pages, state, adapters: &[] });
            first_row += n_rows;
        }
        let positions: Vec<u32> = spans.iter().cloned().flatten().map(|at| at as u32).collect();
        let tokens = positions.iter().map(|_| random.below(N_VOCAB) as u32).collect();
        let output_rows = (0..positions.len() as u32).step_by(2).collect();
        Call { tokens, positions, sequences, output_rows }
    }
}
