//! What operations work on: slots, KV cache, recurrent states and scratch memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use realm_ir::{BatchView, Error, Program, Result, Rows, SessionConfig, Slot, SlotInfo};
use realm_quant::{Activations, Level};

use crate::kv::KvCache;
use crate::ops::attend::scratch::Scratch as AttendScratch;
use crate::states::States;

/// The memory of one session.
pub(crate) struct State {
    pub level: Level,
    pub slots: SlotBuffers,
    pub kv: KvCache,
    pub recurrent: States,
    pub scratch: Scratch,
}

/// Memory that operations use and leave.
pub(crate) struct Scratch {
    /// Input rows of a product, one entry per activation form.
    pub activations: Vec<Activations>,
    pub per_worker: PerWorker<Vec<f32>>,
    pub attention: PerWorker<AttendScratch>,
}

impl State {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(
        level: Level,
        program: &Program,
        config: &SessionConfig,
        n_workers: usize,
    ) -> Result<Self> {
        Ok(State {
            level,
            slots: SlotBuffers::new(&program.slots, config)?,
            kv: KvCache::new(&config.kv)?,
            recurrent: States::new(&config.states)?,
            scratch: Scratch {
                activations: Vec::new(),
                per_worker: PerWorker::new(n_workers),
                attention: PerWorker::new(n_workers),
            },
        })
    }
}

/// The slots' memory. It is only ever borrowed, so that whatever happens while an
/// operation has it, it is in its place afterwards.
pub(crate) struct SlotBuffers(Vec<SlotBuffer>);

struct SlotBuffer {
    info: SlotInfo,
    values: Vec<f32>,
}

impl SlotBuffers {
    fn new(slots: &[SlotInfo], config: &SessionConfig) -> Result<Self> {
        let buffer = |info: &SlotInfo| {
            let rows = rows_there_are(info.rows, config.max_rows, config.max_outputs);
            Ok(SlotBuffer { info: *info, values: zeros(rows, info.width)? })
        };
        slots.iter().map(buffer).collect::<Result<_>>().map(SlotBuffers)
    }

    /// Values per row.
    pub fn width(&self, slot: Slot) -> usize {
        self.0[slot.0].info.width
    }

    /// What a slot's rows stand for.
    pub fn rows(&self, slot: Slot) -> Rows {
        self.0[slot.0].info.rows
    }

    /// Rows of a slot that the batch fills.
    pub fn n_rows(&self, slot: Slot, batch: &BatchView<'_>) -> usize {
        rows_there_are(self.rows(slot), batch.n_rows(), batch.output_rows.len())
    }

    /// Memory of a slot, to be read.
    pub fn get(&self, slot: Slot) -> &[f32] {
        &self.0[slot.0].values
    }

    /// Memory of a slot, to be written.
    pub fn get_mut(&mut self, slot: Slot) -> &mut [f32] {
        &mut self.0[slot.0].values
    }

    /// Memory of one slot, to be written while all others are read.
    pub fn split(&mut self, written: Slot) -> (&mut [f32], OtherSlots<'_>) {
        let (before, rest) = self.0.split_at_mut(written.0);
        let (own, after) = rest.split_first_mut().expect("slots that the program has");
        (&mut own.values, OtherSlots { before, after })
    }

    /// Memory of a few slots, to be written.
    ///
    /// # Panics
    /// When two are the same, which the check of the program rules out.
    pub fn distinct<const N: usize>(&mut self, slots: [Slot; N]) -> [&mut [f32]; N] {
        let buffers = self.0.get_disjoint_mut(slots.map(|slot| slot.0));
        buffers
            .expect("a checked program keeps operands apart")
            .map(|buffer| &mut buffer.values[..])
    }

    /// Memory of slots, to be written, and their widths. Of a slot that comes up again, which
    /// the plan rules out, the memory is empty.
    pub fn all_of(
        &mut self,
        slots: impl ExactSizeIterator<Item = Slot> + Clone,
    ) -> Vec<(&mut [f32], usize)> {
        let mut found = Vec::new();
        found.resize_with(slots.len(), <(&mut [f32], usize)>::default);
        for (index, buffer) in self.0.iter_mut().enumerate() {
            if let Some(place) = slots.clone().position(|slot| slot.0 == index) {
                found[place] = (&mut buffer.values, buffer.info.width);
            }
        }
        found
    }
}

/// All slots but the one that is being written.
#[derive(Clone, Copy)]
pub(crate) struct OtherSlots<'a> {
    before: &'a [SlotBuffer],
    after: &'a [SlotBuffer],
}

impl<'a> OtherSlots<'a> {
    /// # Panics
    /// For the slot that is being written, which the check of the program rules out.
    fn buffer(self, slot: Slot) -> &'a SlotBuffer {
        match slot.0.checked_sub(self.before.len()) {
            None => &self.before[slot.0],
            Some(0) => panic!("slot {} is read while it is written", slot.0),
            Some(distance) => &self.after[distance - 1],
        }
    }

    /// Memory of a slot.
    pub fn get(self, slot: Slot) -> &'a [f32] {
        &self.buffer(slot).values
    }

    /// One row of a slot.
    pub fn row(self, slot: Slot, row: usize) -> &'a [f32] {
        let SlotBuffer { info, values } = self.buffer(slot);
        &values[row * info.width..][..info.width]
    }
}

/// Rows of a slot, of a batch with so many rows.
/// Rows that a slot has of so many rows and outputs.
pub(crate) fn rows_there_are(rows: Rows, n_rows: usize, n_outputs: usize) -> usize {
    match rows {
        Rows::Batch => n_rows,
        Rows::Outputs => n_outputs,
    }
}

fn zeros(rows: usize, width: usize) -> Result<Vec<f32>> {
    let len = rows.saturating_mul(width);
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| Error::OutOfMemory {
        what: format!("activations of {rows} rows of {width}"),
        bytes: len.saturating_mul(4),
    })
}

/// Something for each worker of a pool, which takes its own in a task and leaves it behind
/// in any state: who uses it next fills it first.
pub(crate) struct PerWorker<T>(Vec<Mutex<T>>);

impl<T: Default> PerWorker<T> {
    fn new(n_workers: usize) -> Self {
        PerWorker((0..n_workers).map(|_| Mutex::default()).collect())
    }

    /// What belongs to `worker`, who waits for nobody.
    pub fn of(&self, worker: usize) -> MutexGuard<'_, T> {
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
