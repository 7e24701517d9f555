//! What is done to one row alone: norms, activations, and what operations of several kinds
//! have of them.

use std::ops::Range;

use realm_ir::NormKind;
use realm_quant::Level;

use crate::math;
use crate::plan::{NormOp, PerRow};
use crate::state::OtherSlots;
use crate::weight::WeightHandle;

/// The rows of one task.
pub(crate) fn task_rows(task: usize, per_task: usize, n_rows: usize) -> Range<usize> {
    task * per_task..n_rows.min((task + 1) * per_task)
}

/// Makes one row of the operation's result. `target` is that row of the out
/// slot, and still holds the old values.
pub(crate) fn fill_row(
    level: Level,
    op: &PerRow,
    others: OtherSlots<'_>,
    row: usize,
    target: &mut [f32],
) {
    match op {
        PerRow::Norm(op) => {
            if op.input != op.out {
                target.copy_from_slice(&others.row(op.input, row)[..target.len()]);
            }
            norm_row(level, op, target);
        }
        PerRow::GatedAct(op) => {
            if op.gate != op.out {
                match others.row(op.gate, row) {
                    [gate] => target.fill(*gate),
                    gates => target.copy_from_slice(&gates[..target.len()]),
                }
            }
            let up = op.up.map(|up| &others.row(up, row)[op.up_offset..][..target.len()]);
            math::gated(level, op.activation, target, up);
        }
        PerRow::Sparsify(op) => sparsify_row(level, &mut target[..op.width], op.deviations),
    }
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
