//! What a session takes on the device, by arithmetic: before anything is uploaded or opened.
//!
//! The sizes are those of the buffers that weights, `memory.rs` and the planner make; a test
//! compares them.

use std::collections::HashMap;

use realm_gguf::TensorData;
use realm_ir::{
    BackendLimits, KvType, MemoryPlan, Moe, Program, Result, RopeSpec, SessionConfig, Slot, Step,
    WeightLayout, WeightRef, bytes_of,
};

use crate::batch;
use crate::gpu::{Gpu, word_bytes};
use crate::kernel::THREADS;
use crate::plan::{self, MAX_GRID, attend, linear, moe, rows};
use crate::sizes::Sizes;
use crate::weight;

/// Values of a row that a slot may have where a batch is as large as suits the device: more than
/// any model has, but for logits.
const WIDEST_SLOT: u64 = 1 << 16;

/// Rows that keep a graphics processor busy, and more than twice as many as a processor takes.
const BATCH_ROWS: usize = 512;

/// The sizes that suit the device. One that computes in software has no more to compute with than
/// the CPU has.
pub(crate) fn limits(gpu: &Gpu) -> BackendLimits {
    let storage = gpu.device.limits().max_compute_workgroup_storage_size as usize / 4;
    let software = gpu.description.software;
    let fitting = gpu.max_binding_bytes / (4 * WIDEST_SLOT);
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
    BackendLimits {
        batch_rows: if software { 256 } else { fitting.clamp(64, BATCH_ROWS) },
        output_rows: if software { 32 } else { 64 },
        // What a graphics processor takes as long for as a processor for 64.
        rows_beside_decoding: if software { 64 } else { 256 },
        page_tokens: 32,
        most_rows: MAX_GRID,
        // A head that is rotated lies in workgroup memory, beside the sums of its threads.
        most_head_width: storage.saturating_sub(2 * THREADS).min(attend::MOST_VALUE_WIDTH),
        kv_types: &[KvType::F32, KvType::F16],
    }
}

/// What `program` takes in a session of these sizes.
///
/// # Errors
/// `UnsupportedType` and `Unsupported` for a weight, a slot or what a step hands on within itself
/// that the device cannot keep, and for steps that it cannot run.
pub(crate) fn plan(gpu: &Gpu, program: &Program, config: &SessionConfig) -> Result<MemoryPlan> {
    let sizes = Sizes::of(program, config, gpu.max_binding_bytes)?;
    let session = Session { gpu, program, config, sizes };
    let slots = session.sizes.slots.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let others = [session.scratch()?, session.tables(), session.transfers()];
    Ok(MemoryPlan {
        layout: WeightLayout::Mapped,
        weights: weights(gpu, program)?,
        copies: 0,
        kv: session.kv(),
        states: config.states.bytes(),
        slots: others.into_iter().fold(slots, u64::saturating_add),
    })
}

fn weights(gpu: &Gpu, program: &Program) -> Result<u64> {
    let mut bytes = 0;
    for together in program.weights_together() {
        let tensors: Vec<&TensorData> = together.iter().map(|w| program.weight(*w)).collect();
        for group in weight::side_by_side(gpu, &tensors) {
            let members: Vec<_> = group.iter().map(|index| tensors[*index]).collect();
            bytes += weight::planned_bytes(gpu, &members)?;
        }
    }
    Ok(bytes)
}

/// The sizes that the memory of a session follows from.
struct Session<'a> {
    gpu: &'a Gpu,
    program: &'a Program,
    config: &'a SessionConfig,
    sizes: Sizes,
}

/// What the dispatches of steps hand to each other: one buffer for each purpose, which a larger
/// one takes the place of without freeing it.
struct Scratch<'a> {
    gpu: &'a Gpu,
    largest: HashMap<&'static str, u64>,
    bytes: u64,
}

impl Scratch<'_> {
    /// # Errors
    /// `Unsupported` above the limit of a binding.
    fn take(&mut self, what: &'static str, dimensions: &[usize]) -> Result<()> {
        let bytes = word_bytes(dimensions);
        self.gpu.require_scratch(what, bytes)?;
        let largest = self.largest.entry(what).or_default();
        if bytes > *largest {
            *largest = bytes;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        Ok(())
    }
}

impl Session<'_> {
    fn rows(&self, slot: Slot) -> usize {
        plan::max_rows(self.program.slots[slot.0].rows, self.config)
    }

    fn kv(&self) -> u64 {
        let pages = self.sizes.kv.iter().flatten().map(|part| part.page_bytes);
        pages.sum::<u64>().saturating_mul(self.config.kv.n_pages as u64)
    }

    /// What pages and states are copied through, batches come in, and results go out.
    fn transfers(&self) -> u64 {
        let SessionConfig { max_rows, max_outputs, ref kv, .. } = *self.config;
        let batch = bytes_of(batch::n_words(max_rows, max_outputs, kv.n_pages), 4);
        let results = self.sizes.slots[self.program.logits.0];
        self.sizes.largest_copy().saturating_add(batch).saturating_add(results)
    }

    /// The tables of the rotations that there are.
    fn tables(&self) -> u64 {
        let mut known: Vec<&RopeSpec> = Vec::new();
        for step in self.program.segments.iter().flatten() {
            let rope = match step {
                Step::RopeStore(step) => step.rope.as_ref(),
                Step::Rope(step) => Some(&step.rope),
                _ => None,
            };
            let Some(rope) = rope else { continue };
            if !known.iter().any(|other| attend::is_same_table(other, rope)) {
                known.push(rope);
            }
        }
        known.into_iter().map(|rope| crate::rope::n_bytes(rope) as u64).sum()
    }

    fn scratch(&self) -> Result<u64> {
        let mut scratch = Scratch { gpu: self.gpu, largest: HashMap::new(), bytes: 0 };
        for step in self.program.segments.iter().flatten() {
            match step {
                Step::Linear(linear) => {
                    let takes_int8 = |w: &WeightRef| self.takes_int8(*w, linear.input, false);
                    let weights = linear.outputs.iter().map(|output| output.weight);
                    if let Some(weight) = weights.clone().find(takes_int8) {
                        self.round(&mut scratch, weight, self.rows(linear.input))?;
                    }
                }
                Step::Attend(attend) => {
                    let n_buffers = self.sizes.kv[attend.kv_layer].len();
                    let shares = attend::shares(self.gpu, self.config, attend, n_buffers)?;
                    scratch.take(attend::SHARES, &shares)?;
                }
                Step::Moe(moe) => self.experts(&mut scratch, moe)?,
                Step::Mix(mix) => {
                    scratch.take(rows::SUMS, &rows::mix_sums(self.program, self.config, mix))?;
                }
                _ => {}
            }
        }
        Ok(scratch.bytes)
    }

    /// Whether products with a weight take their input in int8.
    fn takes_int8(&self, weight: WeightRef, input: Slot, is_of_experts: bool) -> bool {
        let tensor = self.program.weight(weight);
        let stride = self.program.width(input);
        linear::takes_int8(self.gpu, tensor, stride, self.rows(input), is_of_experts)
    }

    fn round(&self, scratch: &mut Scratch<'_>, weight: WeightRef, n_items: usize) -> Result<()> {
        let width = self.program.weight(weight).row_len();
        scratch.take(linear::ROUNDED, &linear::rounded_words(width, n_items))
    }

    /// In the order in which the planner asks for it.
    fn experts(&self, scratch: &mut Scratch<'_>, step: &Moe) -> Result<()> {
        let n_rows = self.rows(step.input);
        let n_choices = moe::n_choices(step, n_rows)?;
        let inner = self.program.weight(step.experts.down).row_len();
        let width = self.program.weight(step.experts.up).row_len();
        for (what, dimensions) in moe::scratch(step, n_rows, (width, inner)) {
            scratch.take(what, &dimensions)?;
        }
        if self.takes_int8(step.experts.up, step.input, true) {
            self.round(scratch, step.experts.up, n_rows)?;
        }
        let down = self.program.weight(step.experts.down);
        if linear::takes_int8(self.gpu, down, inner, n_rows, true) {
            self.round(scratch, step.experts.down, n_choices)?;
        }
        Ok(())
    }
}
