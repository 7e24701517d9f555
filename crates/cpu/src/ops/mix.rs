//! Sums of slots with factors of each row's own.

use realm_ir::BatchView;

use crate::parts::Parts;
use crate::plan::MixOp;
use crate::pool::Team;
use crate::state::State;

/// A task is one row.
pub(crate) fn mix(op: &MixOp, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
    let n_rows = state.slots.n_rows(op.weights, batch);
    let (n_inputs, n_outputs) = (op.inputs.len(), op.n_outputs);
    let slots = state.slots.all_of(op.slots.iter().copied());
    let width = slots[0].1;
    let parts: Vec<_> =
        slots.into_iter().map(|(values, width)| (Parts::new(values), width)).collect();
    let per_worker = &state.scratch.per_worker;
    team.for_each(n_rows, &|worker, row| {
        let part = |slot: usize, len: usize| {
            let (values, stride) = &parts[slot];
            // SAFETY: each row belongs to one task, which holds one part of a slot at a time.
            unsafe { values.part(row * stride..row * stride + len) }
        };
        let weights = part(n_outputs, n_outputs * n_inputs);
        let mut sums = per_worker.of(worker);
        sums.clear();
        sums.resize(n_outputs * width, 0.0);
        for (i, sum) in sums.chunks_exact_mut(width).enumerate() {
            if op.accumulate {
                sum.copy_from_slice(part(i, width));
            }
            for (input, weight) in op.inputs.iter().zip(&weights[i * n_inputs..][..n_inputs]) {
                let input = part(*input, width);
                sum.iter_mut().zip(input).for_each(|(sum, value)| *sum += *weight * *value);
            }
        }
        for (output, sum) in sums.chunks_exact(width).enumerate() {
            part(output, width).copy_from_slice(sum);
        }
    });
}
