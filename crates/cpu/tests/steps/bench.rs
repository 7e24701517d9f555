//! One small program, run by the oracle and at every level.

use std::ops::Range;
use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions, Level};
use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Backend, BatchView, KvLayer, Program, Rows, SequenceView, Session, Slot, SlotInfo, Step,
    WeightRef,
};
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Model, Size, read};
use realm_testkit::random::{self, Random};

/// Sets an option of a step.
pub type Change<T> = fn(&mut Bench, &mut T);

pub const N_ROWS: usize = 5;
pub const TOKENS: [u32; N_ROWS] = [3, 0, 7, 7, 1];
pub const PAGES: [u32; 2] = [6, 2];

/// Rounding of f32 sums against f64 sums, for values of about 1.
pub const F32_ROUNDING: f32 = 2e-5;

pub fn cpu(threads: usize, level: Level) -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(threads), level: Some(level) }).unwrap()
}

/// Slots, weights and steps of one small program, and what its slots hold at first.
pub struct Bench {
    pub random: Random,
    pub slots: Vec<SlotInfo>,
    pub weights: Vec<TensorData>,
    pub kv_layers: Vec<KvLayer>,
    /// Rows of the slots written before a run.
    pub values: Vec<(Slot, Vec<f32>)>,
}

impl Bench {
    pub fn new(seed: u64) -> Self {
        Bench {
            random: Random::new(seed),
            slots: vec![],
            weights: vec![],
            kv_layers: vec![],
            values: vec![],
        }
    }

    /// A slot of random values.
    pub fn slot(&mut self, width: usize) -> Slot {
        let slot = Slot(self.slots.len());
        self.slots.push(SlotInfo { width, rows: Rows::Batch });
        self.values.push((slot, self.random.normals(N_ROWS * width)));
        slot
    }

    /// Weights whose products with a row of values around 1 are around 1.
    pub fn matrix(&mut self, shape: &[usize], ty: TensorType) -> WeightRef {
        let deviation = 1.0 / (shape[0] as f32).sqrt();
        let name = format!("weight {}", self.weights.len());
        self.weights.push(random::tensor(&mut self.random, &name, shape, ty, deviation));
        WeightRef(self.weights.len() - 1)
    }

    /// F32 values around 1, of any shape.
    pub fn values(&mut self, shape: &[usize]) -> WeightRef {
        let name = format!("values {}", self.weights.len());
        self.weights.push(random::tensor(&mut self.random, &name, shape, TensorType::F32, 1.0));
        WeightRef(self.weights.len() - 1)
    }

    /// F32 values below zero, of any shape.
    pub fn negative_values(&mut self, shape: &[usize]) -> WeightRef {
        let name = format!("values {}", self.weights.len());
        let values = self.random.normals(shape.iter().product());
        let bytes = values.iter().flat_map(|value| (-value.abs()).to_le_bytes()).collect();
        let tensor = TensorData::from_vec(&name, shape, TensorType::F32, bytes).unwrap();
        self.weights.push(tensor);
        WeightRef(self.weights.len() - 1)
    }

    pub fn model(&self, steps: &[Step]) -> Model {
        let (mut slots, weights) = (self.slots.clone(), self.weights.clone());
        slots.push(SlotInfo { width: 1, rows: Rows::Outputs });
        // All that there is, and a head of nothing.
        let segments = vec![steps.to_vec(), vec![]];
        let (hidden, logits, carried) = (Slot(0), Slot(slots.len() - 1), vec![]);
        let program = Program { slots, weights, segments, hidden, carried, logits };
        Model { program: Arc::new(program), kv_layers: self.kv_layers.clone() }
    }

    /// What `out` holds after all rows in one call.
    pub fn together(&self, backend: &dyn Backend, steps: &[Step], out: Slot) -> Vec<f32> {
        let model = self.model(steps);
        let mut session = model.open(backend, Size::default()).unwrap();
        for (slot, values) in &self.values {
            session.write(*slot, values).unwrap();
        }
        run(&mut *session, steps, 0..N_ROWS);
        read(&model, &mut *session, out, N_ROWS).unwrap()
    }

    /// The same row by row, each in a call of its own.
    pub fn one_by_one(&self, backend: &dyn Backend, steps: &[Step], out: Slot) -> Vec<f32> {
        let model = self.model(steps);
        let mut session = model.open(backend, Size::default()).unwrap();
        let mut rows = Vec::new();
        for row in 0..N_ROWS {
            for (slot, values) in &self.values {
                let width = model.program.width(*slot);
                session.write(*slot, &values[row * width..][..width]).unwrap();
            }
            run(&mut *session, steps, row..row + 1);
            rows.extend(read(&model, &mut *session, out, 1).unwrap());
        }
        rows
    }

    /// The oracle's values within `tolerance` of their root mean square, and the same bits
    /// at every level and for each row alone.
    pub fn check(&self, what: &str, steps: &[Step], out: Slot, tolerance: f32) {
        let wanted = self.together(&NaiveBackend, steps, out);
        let got = self.together(&cpu(3, Level::SCALAR), steps, out);
        let off = compare(&got, &wanted);
        assert!(off.rms_wanted > 1e-3, "{what}: a result of zeros shows nothing");
        assert!(off.max_abs <= tolerance * off.rms_wanted.max(1.0), "{what}: {off}");
        for level in Level::available() {
            let same = self.together(&cpu(3, level), steps, out);
            assert!(same == got, "{what}, {level}: {}", compare(&same, &got));
            let alone = self.one_by_one(&cpu(1, level), steps, out);
            assert!(alone == got, "{what}, {level}, row by row: {}", compare(&alone, &got));
        }
    }
}

/// Runs the first segment over some rows of one sequence.
pub fn run(session: &mut dyn Session, steps: &[Step], rows: Range<usize>) {
    let positions: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
    // Without an embedding there is no vocabulary that tokens could be of.
    let embeds = steps.iter().any(|step| matches!(step, Step::Embed(_)));
    let sequence =
        SequenceView { first_row: 0, n_rows: rows.len(), pages: &PAGES, state: 0, adapters: &[] };
    let batch = BatchView {
        tokens: if embeds { &TOKENS[rows] } else { &[] },
        positions: &positions,
        sequences: &[sequence],
        output_rows: &[],
        interrupt: None,
    };
    session.run(0..1, &batch).unwrap();
}

/// Most that rounding activations to int8 moves a value by, in units of the result's size.
pub fn tolerance(ty: TensorType) -> f32 {
    if ty == TensorType::F32 { F32_ROUNDING } else { 0.15 }
}
