//! The truth that executors are tested against: every step as plain loops.
//!
//! Weights are dequantised to f32 once, sums are taken in f64 and stored as f32,
//! nothing is blocked, fused or threaded. [`steps`] has one function per step,
//! written after the formulas in `realm_ir`'s documentation; [`kv`] is the paged
//! cache. Programs have been checked: slots and weights are as wide as their steps say.

pub mod kv;
mod mix;
mod moe;
mod recurrent;
pub mod steps;

use std::ops::Range;
use std::sync::Arc;

use realm_gguf::TensorData;
use realm_ir::{
    Backend, BackendLimits, BatchLimits, BatchView, Error, KvType, MemoryPlan, Program, ReadFuture,
    Result, Rows, Session, SessionConfig, Slot, Uploaded, WeightLayout, WeightRef,
};

use kv::KvCache;

/// Runs any program whose weights `realm_quant` can dequantise, slowly.
#[derive(Clone, Copy, Debug, Default)]
pub struct NaiveBackend;

/// A weight as f32 values: a vector `[width]` or a matrix of `rows` rows of `width`.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Values per row.
    pub width: usize,
    /// Rows one after another.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Row `index`, `[width]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// Row `index` for writing, `[width]`.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.width..][..self.width]
    }
}

/// Dequantises `tensor`.
///
/// # Errors
/// `UnsupportedType` when there is no definition of its type.
pub fn dequantize(tensor: &TensorData) -> Result<Matrix> {
    let tensor = &tensor.fetch()?;
    let mut values = vec![0.0; tensor.row_len() * tensor.n_rows()];
    realm_quant::dequantize(tensor.ty(), tensor.bytes(), &mut values).map_err(|_| {
        Error::UnsupportedType {
            tensor: tensor.name().to_owned(),
            ty: tensor.ty(),
            backend: NaiveBackend.name(),
            step: "Linear",
            supported: realm_quant::supported().map(|ty| format!("{ty} ")).collect(),
        }
    })?;
    Ok(Matrix { width: tensor.row_len(), values })
}

impl Backend for NaiveBackend {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn limits(&self) -> BackendLimits {
        BackendLimits {
            batch_rows: 64,
            output_rows: 8,
            rows_beside_decoding: 16,
            page_tokens: 8,
            most_rows: usize::MAX,
            most_head_width: usize::MAX,
            kv_types: &[KvType::F32, KvType::F16, KvType::Q8_0],
        }
    }

    /// The values of the weights alone: nobody plans memory for an oracle.
    fn memory(&self, program: &Program, _config: &SessionConfig) -> Result<MemoryPlan> {
        let values = program.weights.iter().map(|tensor| 4 * tensor.row_len() * tensor.n_rows());
        let (layout, weights) = (WeightLayout::Mapped, values.sum::<usize>() as u64);
        Ok(MemoryPlan { layout, weights, ..MemoryPlan::default() })
    }

    fn upload(&self, tensor: &TensorData) -> Result<Uploaded> {
        Ok(Arc::new(dequantize(tensor)?))
    }

    fn open_session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>> {
        let weights = weights
            .iter()
            .map(|weight| Arc::clone(weight).downcast().expect("a weight this backend uploaded"))
            .collect();
        let slots = program
            .slots
            .iter()
            .map(|slot| {
                let rows = match slot.rows {
                    Rows::Batch => config.max_rows,
                    Rows::Outputs => config.max_outputs,
                };
                Matrix { width: slot.width, values: vec![0.0; slot.width * rows] }
            })
            .collect();
        let kv = KvCache::new(&config.kv);
        let zeros: Vec<Vec<f32>> = config.states.widths.iter().map(|n| vec![0.0; *n]).collect();
        let recurrent = vec![zeros; config.states.n_states];
        let state = State { program, weights, slots, kv, recurrent };
        Ok(Box::new(NaiveSession { config, state }))
    }
}

/// What steps read and write.
pub struct State {
    program: Arc<Program>,
    weights: Vec<Arc<Matrix>>,
    slots: Vec<Matrix>,
    /// Keys and values of all layers.
    pub kv: KvCache,
    /// `recurrent[state][step]`
    recurrent: Vec<Vec<Vec<f32>>>,
}

impl State {
    /// The values behind a reference.
    pub fn weight(&self, weight: WeightRef) -> &Matrix {
        &self.weights[weight.0]
    }

    /// The values of a weight that is one row, or `default` repeated without it.
    pub fn vector(&self, weight: Option<WeightRef>, width: usize, default: f32) -> Vec<f32> {
        let Some(weight) = weight else { return vec![default; width] };
        self.weight(weight).values.clone()
    }

    /// Rows of a slot that `batch` is about.
    pub fn n_rows(&self, slot: Slot, batch: &BatchView<'_>) -> usize {
        match self.program.slots[slot.0].rows {
            Rows::Batch => batch.n_rows(),
            Rows::Outputs => batch.output_rows.len(),
        }
    }

    /// A slot, all rows that it can hold.
    pub fn slot(&self, slot: Slot) -> &Matrix {
        &self.slots[slot.0]
    }

    /// A recurrent step's values for one sequence.
    pub fn recurrent(&mut self, state: u32, step: usize) -> &mut Vec<f32> {
        &mut self.recurrent[state as usize][step]
    }

    /// A slot for writing.
    pub fn slot_mut(&mut self, slot: Slot) -> &mut Matrix {
        &mut self.slots[slot.0]
    }
}

struct NaiveSession {
    config: SessionConfig,
    state: State,
}

impl Session for NaiveSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        batch.check(&BatchLimits {
            max_rows: self.config.max_rows,
            max_outputs: self.config.max_outputs,
            // Without an embedding, tokens are not looked at.
            n_vocab: self.state.program.n_vocab().unwrap_or(usize::MAX),
            page_tokens: self.config.kv.page_tokens,
            n_pages: self.config.kv.n_pages,
            n_states: self.config.states.n_states,
        })?;
        self.state.program.check_range(&segments)?;
        if batch.has_adapters() {
            let what = "an adapter: merge it with the weights".to_owned();
            return Err(Error::Unsupported { what, backend: NaiveBackend.name() });
        }
        let program = Arc::clone(&self.state.program);
        for step in program.segments[segments].iter().flatten() {
            if batch.is_interrupted() {
                return Err(Error::Interrupted);
            }
            steps::run(step, batch, &mut self.state);
        }
        Ok(())
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<()> {
        let target = self.state.slot_mut(slot);
        if !data.len().is_multiple_of(target.width) || data.len() > target.values.len() {
            return Err(Error::ShapeMismatch {
                what: format!("rows of slot {}", slot.0),
                expected: target.values.len(),
                found: data.len(),
            });
        }
        target.values[..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        let source = self.state.slot(slot);
        let wanted = source.values.get(rows.start * source.width..rows.end * source.width);
        Box::pin(std::future::ready(match wanted {
            Some(values) if values.len() == out.len() => {
                out.copy_from_slice(values);
                Ok(())
            }
            _ => Err(Error::ShapeMismatch {
                what: format!("rows {rows:?} of slot {}", slot.0),
                expected: wanted.map_or(source.values.len(), <[f32]>::len),
                found: out.len(),
            }),
        }))
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        let n_pages = self.config.kv.n_pages;
        if from as usize >= n_pages || to as usize >= n_pages {
            let message = format!("page {from} to {to}, the cache has {n_pages}");
            return Err(Error::InvalidBatch { message });
        }
        self.state.kv.copy_page(from as usize, to as usize);
        Ok(())
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<()> {
        let n = self.state.recurrent.len() as u32;
        if let Some(state) = [from, to].into_iter().find(|state| *state >= n) {
            let message = format!("state {state}, the session has {n}");
            return Err(Error::InvalidBatch { message });
        }
        self.state.recurrent[to as usize] = self.state.recurrent[from as usize].clone();
        Ok(())
    }
}
