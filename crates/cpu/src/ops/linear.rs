//! Matrix products: the input's rows are brought into the form that the weights
//! multiply with, then the workers share the output's columns.

use std::sync::Mutex;

use realm_ir::{BatchView, Error, Result};
use realm_quant::{ActivationForm, ActivationRowsMut, ActivationView, Activations, OutputView};

use super::low_rank::Additions;
use super::rows::{fill_row, task_rows};
use crate::parts::Parts;
use crate::plan::{LinearOp, OutputOp};
use crate::pool::Team;
use crate::session::{Slots, State};

/// Tokens multiplied at once: their quantised rows stay in the second-level cache.
const TOKENS_PER_TILE: usize = 128;
/// Bounds on the output columns of a task, whole panels of an adapter's columns.
const COLUMNS_PER_TASK: std::ops::RangeInclusive<usize> = 16..=128;
/// Tasks per worker that a product is divided into, so that a slow worker holds
/// nobody up for long.
const TASKS_PER_WORKER: usize = 8;

/// Runs a product with what comes before it.
///
/// # Errors
/// `ShapeMismatch` when weights and activations do not fit, which the plan rules out.
pub(crate) fn linear(
    op: &LinearOp,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) -> Result<()> {
    let n_rows = state.slots.n_rows(op.input, batch);
    if n_rows == 0 {
        return Ok(());
    }
    let mut additions = Additions::new(op, state.slots.rows(op.input), batch)?;
    let forms = additions.as_ref().map_or(&op.forms, |additions| &additions.forms);
    let mut activations = std::mem::take(&mut state.scratch.activations);
    let result = quantize(op, forms, &mut activations, &mut state.slots, team, n_rows)
        .and_then(|()| match &mut additions {
            Some(additions) => additions.multiply_inner(&activations, team),
            None => Ok(()),
        })
        .and_then(|()| multiply(op, &activations, additions.as_ref(), state, team, n_rows));
    state.scratch.activations = activations;
    result.map_err(|error| Error::InvalidBatch { message: error.to_string() })
}

/// Makes the input's rows, and their quantised forms.
fn quantize(
    op: &LinearOp,
    forms: &[ActivationForm],
    activations: &mut Vec<Activations>,
    slots: &mut Slots,
    team: &Team<'_>,
    n_rows: usize,
) -> std::result::Result<(), realm_quant::Error> {
    activations.resize_with(activations.len().max(forms.len()), Activations::new);
    for (form, buffer) in forms.iter().zip(activations.iter_mut()) {
        buffer.reset(*form, n_rows, op.width)?;
    }
    let n_tasks = if n_rows == 1 { 1 } else { team.n_workers().min(n_rows) };
    let per_task = n_rows.div_ceil(n_tasks);
    let mut targets = split_rows(&mut activations[..forms.len()], n_rows, per_task);

    let stride = slots.width(op.input);
    let mut input = slots.take(op.input);
    let parts = Parts::new(&mut input);
    let failure = Mutex::new(None);
    team.for_each(targets.len(), &|_, task| {
        let mut target = targets[task].lock().expect("each task locks its own target once");
        for (local, row) in task_rows(task, per_task, n_rows).enumerate() {
            // SAFETY: each row belongs to one task.
            let values = unsafe { parts.part(row * stride..(row + 1) * stride) };
            if let Some(before) = &op.before {
                fill_row(before, slots, row, values);
            }
            for rows in target.iter_mut() {
                if let Err(error) = rows.quantize_row(local, &values[..op.width]) {
                    *failure.lock().expect("nothing panics while holding it") = Some(error);
                }
            }
        }
    });
    targets.clear();
    slots.put(op.input, input);
    failure.into_inner().expect("nothing panics while holding it").map_or(Ok(()), Err)
}

/// For each task, its rows of every form.
fn split_rows(
    activations: &mut [Activations],
    n_rows: usize,
    per_task: usize,
) -> Vec<Mutex<Vec<ActivationRowsMut<'_>>>> {
    let n_tasks = n_rows.div_ceil(per_task);
    let mut targets: Vec<Vec<_>> = (0..n_tasks).map(|_| Vec::new()).collect();
    for form in activations {
        let mut rest = form.rows_mut();
        for target in &mut targets {
            let n = per_task.min(rest.rows());
            let (own, others) = rest.split_at(n);
            target.push(own);
            rest = others;
        }
    }
    targets.into_iter().map(Mutex::new).collect()
}

/// One task: some output columns of one product.
struct Columns<'a> {
    output: &'a OutputOp,
    first: usize,
    n: usize,
}

fn multiply(
    op: &LinearOp,
    activations: &[Activations],
    additions: Option<&Additions<'_>>,
    state: &mut State,
    team: &Team<'_>,
    n_rows: usize,
) -> std::result::Result<(), realm_quant::Error> {
    let mut outputs: Vec<_> =
        op.outputs.iter().map(|output| state.slots.take(output.out)).collect();
    let parts: Vec<_> = outputs.iter_mut().map(|values| Parts::new(values)).collect();
    let per_task = columns_per_task(op, team.n_workers());
    let n_tasks: Vec<_> =
        op.outputs.iter().map(|output| output.weight.n_rows().div_ceil(per_task)).collect();
    let (slots, scratch) = (&state.slots, &state.scratch);
    let failure = Mutex::new(None);

    team.for_each(n_tasks.iter().sum(), &|worker, mut task| {
        let index = n_tasks.iter().position(|n| {
            let here = task < *n;
            task -= if here { 0 } else { *n };
            here
        });
        let index = index.expect("tasks are numbered over all outputs");
        let output = &op.outputs[index];
        let first = task * per_task;
        let columns = Columns { output, first, n: per_task.min(output.weight.n_rows() - first) };
        let stride = slots.width(output.out);
        let x = &activations[output.form];
        let mut tile = scratch.per_worker[worker].lock().expect("a worker locks its own scratch");
        for first_token in (0..n_rows).step_by(TOKENS_PER_TILE) {
            let tokens = first_token..n_rows.min(first_token + TOKENS_PER_TILE);
            tile.resize(tokens.len() * columns.n, 0.0);
            if let Err(error) = columns.product(x.view(tokens.clone()), &mut tile) {
                *failure.lock().expect("nothing panics while holding it") = Some(error);
                return;
            }
            if let Some(additions) = additions {
                let range = columns.first..columns.first + columns.n;
                additions.add(index, range, tokens.clone(), &mut tile);
            }
            for (token, values) in tokens.zip(tile.chunks_exact(columns.n)) {
                let start = token * stride + columns.first;
                // SAFETY: each output's columns belong to one task.
                let target = unsafe { parts[index].part(start..start + columns.n) };
                columns.store(values, target);
            }
        }
    });
    drop(parts);
    for (output, values) in op.outputs.iter().zip(outputs) {
        state.slots.put(output.out, values);
    }
    failure.into_inner().expect("nothing panics while holding it").map_or(Ok(()), Err)
}

fn columns_per_task(op: &LinearOp, n_workers: usize) -> usize {
    let columns: usize = op.outputs.iter().map(|output| output.weight.n_rows()).sum();
    let even = columns.div_ceil(n_workers * TASKS_PER_WORKER);
    even.next_multiple_of(*COLUMNS_PER_TASK.start())
        .clamp(*COLUMNS_PER_TASK.start(), *COLUMNS_PER_TASK.end())
}

impl Columns<'_> {
    /// `out[t][c]` for the task's columns.
    fn product(
        &self,
        x: ActivationView<'_>,
        out: &mut [f32],
    ) -> std::result::Result<(), realm_quant::Error> {
        let out = OutputView::new(out, x.rows(), self.n)?;
        self.output.weight.matmul(self.first, x, out)
    }

    /// Bias, factor and residual of one token's values.
    fn store(&self, values: &[f32], target: &mut [f32]) {
        let scale = self.output.scale;
        let bias = self.output.bias.as_ref().map(|bias| &bias.values()[self.first..][..self.n]);
        for (i, (value, target)) in values.iter().zip(target).enumerate() {
            let result = scale * (value + bias.map_or(0.0, |bias| bias[i]));
            *target = if self.output.accumulate { *target + result } else { result };
        }
    }
}
