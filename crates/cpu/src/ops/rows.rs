//! Operations on one row after another: embedding, norms, activations, sums.

use std::ops::Range;

use realm_ir::{Add, BatchView, NormKind, Result, Slot, TakeRows};

use crate::math;
use crate::parts::Parts;
use crate::plan::{NormOp, PerRow, WeightHandle};
use crate::pool::Team;
use crate::session::{Slots, State};

/// Rows of the embedding table.
///
/// # Errors
/// `ShapeMismatch` when the batch came without tokens.
pub(crate) fn embed(
    table: &WeightHandle,
    out: Slot,
    scale: f32,
    state: &mut State,
    batch: &BatchView<'_>,
) -> Result<()> {
    if batch.tokens.len() != batch.n_rows() {
        return Err(realm_ir::Error::ShapeMismatch {
            what: "tokens of the batch".to_owned(),
            expected: batch.n_rows(),
            found: batch.tokens.len(),
        });
    }
    let width = state.slots.width(out);
    let mut values = state.slots.take(out);
    for (token, row) in batch.tokens.iter().zip(values.chunks_exact_mut(width)) {
        table.dequantize_row(*token as usize, &mut row[..table.row_len()]);
        if scale != 1.0 {
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }
    state.slots.put(out, values);
    Ok(())
}

/// Rows per task: enough to be worth handing out.
const ROWS_PER_TASK: usize = 4;

/// A norm or activation that no product takes over.
pub(crate) fn per_row(op: &PerRow, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
    let (out, n_rows) = (op.out(), state.slots.n_rows(op.out(), batch));
    let width = state.slots.width(out);
    let mut values = state.slots.take(out);
    let parts = Parts::new(&mut values);
    let slots = &state.slots;
    team.for_each(n_rows.div_ceil(ROWS_PER_TASK), &|_, task| {
        for row in task_rows(task, ROWS_PER_TASK, n_rows) {
            // SAFETY: each row belongs to one task.
            let target = unsafe { parts.part(row * width..(row + 1) * width) };
            fill_row(op, slots, row, target);
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
pub(crate) fn fill_row(op: &PerRow, slots: &Slots, row: usize, target: &mut [f32]) {
    match op {
        PerRow::Norm(op) => {
            if op.input != op.out {
                target.copy_from_slice(row_of(slots, op.input, row, target.len()));
            }
            norm_row(op, target);
        }
        PerRow::GatedAct(op) => {
            if op.gate != op.out {
                target.copy_from_slice(row_of(slots, op.gate, row, target.len()));
            }
            let up = op.up.map(|up| row_of(slots, up, row, target.len()));
            math::gated(op.activation, target, up);
        }
    }
}

/// The first `len` values of a row.
fn row_of(slots: &Slots, slot: Slot, row: usize, len: usize) -> &[f32] {
    &slots.get(slot)[row * slots.width(slot)..][..len]
}

fn norm_row(op: &NormOp, row: &mut [f32]) {
    let n = row.len() as f32;
    if op.kind == NormKind::Layer {
        let mean = row.iter().sum::<f32>() / n;
        row.iter_mut().for_each(|value| *value -= mean);
    }
    let scale = 1.0 / (math::sum_of_squares(row) / n + op.epsilon).sqrt();
    match &op.weight {
        Some(weight) => {
            row.iter_mut().zip(weight.values()).for_each(|(value, w)| *value = *value * scale * w);
        }
        None => row.iter_mut().for_each(|value| *value *= scale),
    }
    if let Some(bias) = &op.bias {
        row.iter_mut().zip(bias.values()).for_each(|(value, b)| *value += b);
    }
}

/// RMS norm of one head.
pub(crate) fn norm_head(head: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = 1.0 / (math::sum_of_squares(head) / head.len() as f32 + epsilon).sqrt();
    head.iter_mut().zip(weight).for_each(|(value, w)| *value = *value * scale * w);
}

/// `out = a + scale * b`
pub(crate) fn add(op: &Add, state: &mut State, batch: &BatchView<'_>) {
    let len = state.slots.n_rows(op.out, batch) * state.slots.width(op.out);
    let mut out = state.slots.take(op.out);
    if op.a != op.out {
        out[..len].copy_from_slice(&state.slots.get(op.a)[..len]);
    }
    let b = &state.slots.get(op.b)[..len];
    out.iter_mut().zip(b).for_each(|(value, b)| *value += op.scale * b);
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
