//! A session: slots, KV cache and scratch memory of one program.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use realm_ir::{
    BatchLimits, BatchView, Error, Program, ReadFuture, Result, Rows, Session, SessionConfig, Slot,
    SlotInfo, Uploaded,
};
use realm_quant::Activations;

use crate::kv::KvCache;
use crate::ops;
use crate::packer::Packer;
use crate::plan::{self, Op};
use crate::pool::{Pool, Team};
use crate::states::States;

/// Runs one program.
pub(crate) struct CpuSession {
    pool: Arc<Pool>,
    segments: Vec<Vec<Op>>,
    limits: BatchLimits,
    state: State,
    /// Makes copies until it is dropped.
    _packer: Packer,
}

/// What operations work on.
pub(crate) struct State {
    pub slots: Slots,
    pub kv: KvCache,
    pub recurrent: States,
    pub scratch: Scratch,
}

/// The slots' memory.
pub(crate) struct Slots {
    info: Vec<SlotInfo>,
    values: Vec<Vec<f32>>,
}

/// Memory that operations use and leave.
pub(crate) struct Scratch {
    /// Input rows of a product, one entry per activation form.
    pub activations: Vec<Activations>,
    /// One buffer per worker.
    pub per_worker: Vec<Mutex<Vec<f32>>>,
    /// One per worker, for attention.
    pub attention: Vec<Mutex<ops::attend::Scratch>>,
}

impl CpuSession {
    pub fn new(
        pool: Arc<Pool>,
        program: &Program,
        weights: Arc<[Uploaded]>,
        config: &SessionConfig,
    ) -> Result<Self> {
        let limits = BatchLimits {
            max_rows: config.max_rows,
            max_outputs: config.max_outputs,
            n_vocab: plan::n_vocab(program),
            page_tokens: config.kv.page_tokens,
            n_pages: config.kv.n_pages,
            n_states: config.states.n_states,
        };
        let mut values = Vec::with_capacity(program.slots.len());
        for slot in &program.slots {
            let rows = plan::max_rows(slot.rows, config.max_rows, config.max_outputs);
            values.push(zeros(rows, slot.width)?);
        }
        let scratch = Scratch {
            activations: Vec::new(),
            per_worker: (0..pool.n_workers()).map(|_| Mutex::default()).collect(),
            attention: (0..pool.n_workers()).map(|_| Mutex::default()).collect(),
        };
        let segments = plan::plan(program, &weights)?;
        let packer = Packer::start(program, &weights, config.layout, pool.n_workers());
        Ok(CpuSession {
            pool,
            segments,
            limits,
            _packer: packer,
            state: State {
                slots: Slots { info: program.slots.clone(), values },
                kv: KvCache::new(&config.kv)?,
                recurrent: States::new(&config.states)?,
                scratch,
            },
        })
    }

    fn check_pages(&self, pages: &[u32]) -> Result<()> {
        match pages.iter().find(|page| **page as usize >= self.limits.n_pages) {
            Some(page) => {
                let message = format!("page {page}, the cache has {}", self.limits.n_pages);
                Err(Error::InvalidBatch { message })
            }
            None => Ok(()),
        }
    }
}

fn zeros(rows: usize, width: usize) -> Result<Vec<f32>> {
    let len = rows.saturating_mul(width);
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| Error::OutOfMemory {
        what: format!("activations of {rows} rows of {width}"),
        bytes: len.saturating_mul(4),
    })
}

impl Session for CpuSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        batch.check(&self.limits)?;
        let n_segments = self.segments.len();
        let Some(segments) = self.segments.get(segments.clone()) else {
            let message = format!("segments {segments:?} of {n_segments}");
            return Err(Error::InvalidBatch { message });
        };
        if batch.n_rows() == 0 {
            return Ok(());
        }
        for segment in segments {
            // Sessions of one backend take turns layer by layer.
            let team = self.pool.team();
            for op in segment {
                if batch.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                run_op(op, &mut self.state, &team, batch)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<()> {
        let width = self.state.slots.width(slot);
        let values = &mut self.state.slots.values[slot.0];
        if !data.len().is_multiple_of(width) || data.len() > values.len() {
            let what = format!("slot {}, rows of {width}", slot.0);
            return Err(Error::ShapeMismatch { what, expected: values.len(), found: data.len() });
        }
        values[..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        let width = self.state.slots.width(slot);
        let values = &self.state.slots.values[slot.0];
        let wanted = rows.len().saturating_mul(width);
        let end = rows.end.saturating_mul(width);
        let result = if out.len() != wanted || end > values.len() {
            let what = format!("rows {rows:?} of slot {}", slot.0);
            Err(Error::ShapeMismatch { what, expected: wanted, found: out.len() })
        } else {
            out.copy_from_slice(&values[rows.start * width..end]);
            Ok(())
        };
        Box::pin(std::future::ready(result))
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        self.check_pages(&[from, to])?;
        self.state.kv.copy_page(from as usize, to as usize);
        Ok(())
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<()> {
        if let Some(state) = [from, to].iter().find(|s| **s as usize >= self.limits.n_states) {
            let message = format!("state {state}, the session has {}", self.limits.n_states);
            return Err(Error::InvalidBatch { message });
        }
        self.state.recurrent.copy(from as usize, to as usize);
        Ok(())
    }
}

fn run_op(op: &Op, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) -> Result<()> {
    let _span = op.span().entered();
    match op {
        Op::Embed(op) => ops::rows::embed(op, state, batch)?,
        Op::PerRow(op) => ops::rows::per_row(op, state, team, batch),
        Op::Linear(op) => ops::linear::linear(op, state, team, batch)?,
        Op::RopeStore(op) => ops::rope::rope_store(op, state, team, batch),
        Op::Rope(op) => ops::rope::rope(op, state, team, batch),
        Op::Attend { step, sinks } => {
            ops::attend::attend(step, sinks.as_ref(), state, team, batch);
        }
        Op::Add(op) => ops::rows::add(op, state, batch),
        Op::TakeRows(op) => ops::rows::take_rows(op, state, batch),
        Op::Moe(op) => ops::moe::moe(op, state, team, batch)?,
        Op::HeadLinear { step, weight } => {
            ops::head_linear::head_linear(step, weight, state, team, batch)?;
        }
        Op::Mix(op) => ops::mix::mix(op, state, team, batch),
        Op::Conv { step, weight, bias } => {
            ops::recurrent::conv(step, weight, bias.as_ref(), state, batch);
        }
        Op::DeltaNet { step, decay, bias } => {
            ops::recurrent::delta_net(step, decay, bias, state, team, batch);
        }
        Op::SelectiveScan(op) => ops::recurrent::selective_scan(op, state, team, batch),
    }
    Ok(())
}

impl Slots {
    /// Values per row.
    pub fn width(&self, slot: Slot) -> usize {
        self.info[slot.0].width
    }

    /// What a slot's rows stand for.
    pub fn rows(&self, slot: Slot) -> Rows {
        self.info[slot.0].rows
    }

    /// Rows of a slot that the batch fills.
    pub fn n_rows(&self, slot: Slot, batch: &BatchView<'_>) -> usize {
        plan::max_rows(self.info[slot.0].rows, batch.n_rows(), batch.output_rows.len())
    }

    /// Memory of a slot, to be read.
    pub fn get(&self, slot: Slot) -> &[f32] {
        &self.values[slot.0]
    }

    /// Takes a slot's memory out, so that it can be written while others are read;
    /// [`Slots::put`] gives it back.
    pub fn take(&mut self, slot: Slot) -> Vec<f32> {
        std::mem::take(&mut self.values[slot.0])
    }

    /// Gives back what [`Slots::take`] took.
    pub fn put(&mut self, slot: Slot, values: Vec<f32>) {
        self.values[slot.0] = values;
    }
}
