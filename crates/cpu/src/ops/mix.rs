//! Sums of slots with factors of each row's own.

use realm_ir::{BatchView, Mix};

use crate::parts::Parts;
use crate::pool::Team;
use crate::session::State;

/// A task is one row.
pub(crate) fn mix(op: &Mix, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
    let n_rows = state.slots.n_rows(op.weights, batch);
    let (n_inputs, n_outputs) = (op.inputs.len(), op.outputs.len());
    let width = state.slots.width(op.outputs[0]);
    let mut outputs: Vec<Vec<f32>> = op.outputs.iter().map(|out| state.slots.take(*out)).collect();
    let parts: Vec<Parts<'_, f32>> = outputs.iter_mut().map(|out| Parts::new(out)).collect();
    // Where an input is an output too, its memory has been taken out of the slots.
    let among_outputs: Vec<Option<usize>> =
        op.inputs.iter().map(|input| op.outputs.iter().position(|out| out == input)).collect();
    let (slots, scratch) = (&state.slots, &state.scratch);
    team.for_each(n_rows, &|worker, row| {
        let weights = &slots.get(op.weights)[row * n_outputs * n_inputs..][..n_outputs * n_inputs];
        let columns = row * width..(row + 1) * width;
        let mut sums = scratch.per_worker[worker].lock().expect("a worker locks its own scratch");
        sums.clear();
        sums.resize(n_outputs * width, 0.0);
        for (i, sum) in sums.chunks_exact_mut(width).enumerate() {
            if op.accumulate {
                // SAFETY: each row belongs to one task, which holds one part at a time.
                sum.copy_from_slice(unsafe { parts[i].part(columns.clone()) });
            }
            for (j, weight) in weights[i * n_inputs..][..n_inputs].iter().enumerate() {
                let input: &[f32] = match among_outputs[j] {
                    // SAFETY: as above.
                    Some(at) => unsafe { parts[at].part(columns.clone()) },
                    None => &slots.get(op.inputs[j])[columns.clone()],
                };
                sum.iter_mut().zip(input).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        for (part, sum) in parts.iter().zip(sums.chunks_exact(width)) {
            // SAFETY: as above.
            unsafe { part.part(columns.clone()) }.copy_from_slice(sum);
        }
    });
    for (slot, values) in op.outputs.iter().zip(outputs) {
        state.slots.put(*slot, values);
    }
}
