//! Operations on one row after another: embedding, norms, activations, sums.

use std::ops::Range;

use realm_ir::{Add, BatchView, NormKind, Result, Slot, TakeRows};
use realm_quant::Level;

use super::low_rank::{adapted_rows, adapters_of_row, add_lookup};
use crate::math;
use crate::parts::Parts;
use crate::plan::{EmbedOp, NormOp, PerRow, WeightHandle};
use crate::pool::Team;
use crate::session::{Slots, State};

/// Rows of the embedding table.
///
/// # Errors
/// `ShapeMismatch` when the batch came without tokens.
pub(crate) fn embed(op: &EmbedOp, state: &mut State, batch: &BatchView<'_>) -> Result<()> {
    if batch.tokens.len() != batch.n_rows() {
        return Err(realm_ir::Error::ShapeMismatch {
            what: "tokens of the batch".to_owned(),
            expected: batch.n_rows(),
            found: batch.tokens.len(),
        });
    }
    let width = state.slots.width(op.out);
    let adapted = adapted_rows(state.slots.rows(op.out), batch);
    let mut values = state.slots.take(op.out);
    let mut result = Ok(());
    for (row, target) in values.chunks_exact_mut(width).take(batch.n_rows()).enumerate() {
        let target = &mut target[..op.table.row_len()];
        let token = batch.tokens[row] as usize;
        op.table.dequantize_row(token, target);
        if !adapted.is_empty() {
            let (table, entry) = (op.table.reference(), (token, op.table.n_rows()));
            let adapters = adapters_of_row(&adapted, row);
            result = result.and(add_lookup(adapters, table, entry, target));
        }
        if op.scale != 1.0 {
            target.iter_mut().for_each(|value| *value *= op.scale);
        }
        if let Some(positions) = &op.positions {
            let position = (batch.positions[row] as usize).min(positions.n_rows() - 1);
            let position = &positions.values()[position * target.len()..][..target.len()];
            target.iter_mut().zip(position).for_each(|(value, p)| *value += p);
        }
        if let Some(constant) = &op.constant {
            target.iter_mut().zip(constant.values()).for_each(|(value, c)| *value += c);
        }
    }
    state.slots.put(op.out, values);
    result
}

/// Rows per task: enough to be worth handing out.
const ROWS_PER_TASK: usize = 4;

/// A norm or activation that no product takes over.
pub(crate) fn per_row(op: &PerRow, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
    let (out, n_rows) = (op.out(), state.slots.n_rows(op.out(), batch));
    let width = state.slots.width(out);
    let mut values = state.slots.take(out);
    let parts = Parts::new(&mut values);
    let (level, slots) = (state.level, &state.slots);
    team.for_each(n_rows.div_ceil(ROWS_PER_TASK), &|_, task| {
        for row in task_rows(task, ROWS_PER_TASK, n_rows) {
            // SAFETY: each row belongs to one task.
            let target = unsafe { parts.part(row * width..(row + 1) * width) };
            fill_row(level, op, slots, row, target);
        }
    });
    state.slots.put(out, values);
}

/// The rows of one task.
pub(crate) fn task_rows(task: usize, per_task: usize, n_rows: usize) -> Range<usize> {
    task * per_task..n_rows.min((task + 1) * per_task)
}

/// Makes one row of the operation's result. `target` is that row of the out
/// slot, whose memory has been taken out of `slots`; it still holds the old values.
pub(crate) fn fill_row(level: Level, op: &PerRow, slots: &Slots, row: usize, target: &mut [f32]) {
    match op {
        PerRow::Norm(op) => {
            if op.input != op.out {
                target.copy_from_slice(row_of(slots, op.input, row, target.len()));
            }
            norm_row(level, op, target);
        }
        PerRow::GatedAct(op) => {
            if op.gate != op.out {
                match slots.width(op.gate) {
                    1 => target.fill(slots.get(op.gate)[row]),
                    _ => target.copy_from_slice(row_of(slots, op.gate, row, target.len())),
                }
            }
            let up = op
                .up
                .map(|up| &row_of(slots, up, row, op.up_offset + target.len())[op.up_offset..]);
            math::gated(level, op.activation, target, up);
        }
        PerRow::Sparsify(op) => sparsify_row(level, &mut target[..op.width], op.deviations),
    }
}

/// The first `len` values of a row.
fn row_of(slots: &Slots, slot: Slot, row: usize, len: usize) -> &[f32] {
    &slots.get(slot)[row * slots.width(slot)..][..len]
}

fn norm_row(level: Level, op: &NormOp, row: &mut [f32]) {
    let groups = row.chunks_exact_mut(op.width).take(op.groups);
    for (index, group) in groups.enumerate() {
        if op.kind == NormKind::Layer {
            let mean = group.iter().sum::<f32>() / group.len() as f32;
            group.iter_mut().for_each(|value| *value -= mean);
        }
        let mean_square = math::sum_of_squares(level, group) / group.len() as f32;
        let scale = 1.0 / (mean_square + op.epsilon).sqrt();
        match of_group(op.weight.as_ref(), index, op.width) {
            Some(weight) => {
                group.iter_mut().zip(weight).for_each(|(value, w)| *value = *value * scale * w);
            }
            None => group.iter_mut().for_each(|value| *value *= scale),
        }
        if let Some(bias) = of_group(op.bias.as_ref(), index, op.width) {
            group.iter_mut().zip(bias).for_each(|(value, b)| *value += b);
        }
    }
}

/// Keeps what is more than `deviations` standard deviations above the mean.
fn sparsify_row(level: Level, row: &mut [f32], deviations: f32) {
    let mean = row.iter().sum::<f32>() / row.len() as f32;
    row.iter_mut().for_each(|value| *value -= mean);
    let deviation = (math::sum_of_squares(level, row) / (row.len() - 1) as f32).sqrt();
    row.iter_mut().for_each(|value| *value = (*value - deviations * deviation).max(0.0));
}

/// A norm's factors for one group: its own, or those that all groups share.
fn of_group(values: Option<&WeightHandle>, index: usize, width: usize) -> Option<&[f32]> {
    let values = values?.values();
    let first = if values.len() == width { 0 } else { index * width };
    Some(&values[first..first + width])
}

/// RMS norm of one head.
pub(crate) fn norm_head(level: Level, head: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = 1.0 / (math::sum_of_squares(level, head) / head.len() as f32 + epsilon).sqrt();
    head.iter_mut().zip(weight).for_each(|(value, w)| *value = *value * scale * w);
}

/// `out = a_scale * a + scale * b`
pub(crate) fn add(op: &Add, state: &mut State, batch: &BatchView<'_>) {
    let len = state.slots.n_rows(op.out, batch) * state.slots.width(op.out);
    let mut out = state.slots.take(op.out);
    if op.a != op.out {
        out[..len].copy_from_slice(&state.slots.get(op.a)[..len]);
    }
    let b = &state.slots.get(op.b)[..len];
    out.iter_mut().zip(b).for_each(|(value, b)| *value = op.a_scale * *value + op.scale * b);
    state.slots.put(op.out, out);
}

/// The rows that somebody wants logits for.
pub(crate) fn take_rows(op: &TakeRows, state: &mut State, batch: &BatchView<'_>) {
    let width = state.slots.width(op.out);
    let mut out = state.slots.take(op.out);
    for (row, target) in batch.output_rows.iter().zip(out.chunks_exact_mut(width)) {
        target.copy_from_slice(row_of(&state.slots, op.input, *row as usize, width));
    }
    state.slots.put(op.out, out);
}
