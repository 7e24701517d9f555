//! Operations on one row after another: embedding, norms, activations, sums.

use realm_ir::{Add, BatchView, Result, TakeRows};

use super::low_rank::{adapted_rows, adapters_of_row, add_lookup};
use super::row::{fill_row, task_rows};
use crate::parts::Parts;
use crate::plan::{EmbedOp, PerRow};
use crate::pool::Team;
use crate::state::State;

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
    let values = state.slots.get_mut(op.out);
    for (row, target) in values.chunks_exact_mut(width).take(batch.n_rows()).enumerate() {
        let target = &mut target[..op.table.row_len()];
        let token = batch.tokens[row] as usize;
        op.table.dequantize_row(token, target);
        if !adapted.is_empty() {
            let (table, entry) = (op.table.reference(), (token, op.table.n_rows()));
            let adapters = adapters_of_row(&adapted, row);
            add_lookup(adapters, table, entry, target)?;
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
    Ok(())
}

/// Rows per task: enough to be worth handing out.
const ROWS_PER_TASK: usize = 4;

/// A norm or activation that no product takes over.
pub(crate) fn per_row(op: &PerRow, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
    let (out, n_rows) = (op.out(), state.slots.n_rows(op.out(), batch));
    let width = state.slots.width(out);
    let level = state.level;
    let (values, others) = state.slots.split(out);
    let parts = Parts::new(values);
    team.for_each(n_rows.div_ceil(ROWS_PER_TASK), &|_, task| {
        for row in task_rows(task, ROWS_PER_TASK, n_rows) {
            // SAFETY: each row belongs to one task.
            let target = unsafe { parts.part(row * width..(row + 1) * width) };
            fill_row(level, op, others, row, target);
        }
    });
}

/// `out = a_scale * a + scale * b`
pub(crate) fn add(op: &Add, state: &mut State, batch: &BatchView<'_>) {
    let len = state.slots.n_rows(op.out, batch) * state.slots.width(op.out);
    let (out, others) = state.slots.split(op.out);
    if op.a != op.out {
        out[..len].copy_from_slice(&others.get(op.a)[..len]);
    }
    let b = &others.get(op.b)[..len];
    out.iter_mut().zip(b).for_each(|(value, b)| *value = op.a_scale * *value + op.scale * b);
}

/// The rows that somebody wants logits for.
pub(crate) fn take_rows(op: &TakeRows, state: &mut State, batch: &BatchView<'_>) {
    let width = state.slots.width(op.out);
    let (out, others) = state.slots.split(op.out);
    for (row, target) in batch.output_rows.iter().zip(out.chunks_exact_mut(width)) {
        target.copy_from_slice(&others.row(op.input, *row as usize)[..width]);
    }
}
