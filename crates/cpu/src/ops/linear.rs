//! Matrix products: the input's rows are brought into the form that the weights
//! multiply with, then the workers share the output's columns.

use std::ops::Range;
use std::sync::Mutex;

use realm_ir::{BatchView, Error, Result};
use realm_quant::{ActivationForm, ActivationRowsMut, ActivationView, Activations, OutputView};

use super::low_rank::Additions;
use super::rows::{fill_row, task_rows};
use crate::parts::Parts;
use crate::plan::{LinearOp, OutputOp};
use crate::pool::Team;
use crate::session::{Slots, State};

/// Activations multiplied at once, in bytes: they stay in the second-level cache, while
/// weights are unpacked once for all of them.
const TILE_BYTES: usize = 640 << 10;
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
    let _span = tracing::trace_span!("quantize").entered();
    activations.resize_with(activations.len().max(forms.len()), Activations::new);
    for (form, buffer) in forms.iter().zip(activations.iter_mut()) {
        buffer.reset(*form, n_rows, op.width)?;
    }
    let stride = slots.width(op.input);
    let mut input = slots.take(op.input);
    let fill = |row: usize, values: &mut [f32]| {
        if let Some(before) = &op.before {
            fill_row(before, slots, row, values);
        }
    };
    let made = &mut activations[..forms.len()];
    let result = quantize_rows(made, &mut input, (n_rows, op.width, stride), team, &fill);
    slots.put(op.input, input);
    result
}

/// Calls `fill(row, values)` for each row of `values` and brings the first `width` values of
/// it into every form. Rows are `stride` apart; a task is some of them.
pub(crate) fn quantize_rows(
    activations: &mut [Activations],
    values: &mut [f32],
    (n_rows, width, stride): (usize, usize, usize),
    team: &Team<'_>,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> std::result::Result<(), realm_quant::Error> {
    let per_task = n_rows.div_ceil(team.n_workers()).max(1);
    let targets = split_rows(activations, n_rows, per_task);
    let parts = Parts::new(values);
    let failure = Mutex::new(None);
    team.for_each(targets.len(), &|_, task| {
        let mut target = targets[task].lock().expect("each task locks its own target once");
        for (local, row) in task_rows(task, per_task, n_rows).enumerate() {
            // SAFETY: each row belongs to one task.
            let values = unsafe { parts.part(row * stride..(row + 1) * stride) };
            fill(row, values);
            for rows in target.iter_mut() {
                if let Err(error) = rows.quantize_row(local, &values[..width]) {
                    *failure.lock().expect("nothing panics while holding it") = Some(error);
                }
            }
        }
    });
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
    /// Which of the operation's outputs.
    index: usize,
    output: &'a OutputOp,
    first: usize,
    /// Those columns of the output's slot.
    target: OutputView<'a>,
}

fn multiply(
    op: &LinearOp,
    activations: &[Activations],
    additions: Option<&Additions<'_>>,
    state: &mut State,
    team: &Team<'_>,
    n_rows: usize,
) -> std::result::Result<(), realm_quant::Error> {
    let _span = tracing::trace_span!("multiply").entered();
    let mut outputs: Vec<_> =
        op.outputs.iter().map(|output| state.slots.take(output.out)).collect();
    let tasks = split_columns(op, &mut outputs, &state.slots, team.n_workers(), n_rows)?;
    let tile_tokens = tile_tokens(op, n_rows);
    let per_worker = &state.scratch.per_worker;
    let failure = Mutex::new(None);

    team.for_each(tasks.len(), &|worker, task| {
        let mut columns = tasks[task].lock().expect("each task locks its own columns once");
        let x = &activations[columns.output.form];
        let mut tile = per_worker[worker].lock().expect("a worker locks its own scratch");
        for first in (0..n_rows).step_by(tile_tokens) {
            let tokens = first..n_rows.min(first + tile_tokens);
            if let Err(error) =
                columns.product(x.view(tokens.clone()), tokens, additions, &mut tile)
            {
                *failure.lock().expect("nothing panics while holding it") = Some(error);
                return;
            }
        }
    });
    drop(tasks);
    for (output, values) in op.outputs.iter().zip(outputs) {
        state.slots.put(output.out, values);
    }
    failure.into_inner().expect("nothing panics while holding it").map_or(Ok(()), Err)
}

/// The columns of every task, over all outputs.
fn split_columns<'a>(
    op: &'a LinearOp,
    outputs: &'a mut [Vec<f32>],
    slots: &Slots,
    n_workers: usize,
    n_rows: usize,
) -> std::result::Result<Vec<Mutex<Columns<'a>>>, realm_quant::Error> {
    let per_task = columns_per_task(op, n_workers);
    let mut tasks = Vec::new();
    for (index, (output, values)) in op.outputs.iter().zip(outputs).enumerate() {
        let stride = slots.width(output.out);
        let whole = OutputView::new(&mut values[..n_rows * stride], n_rows, stride)?;
        let (mut rest, _) = whole.split_at(output.weight.n_rows());
        let mut first = 0;
        while rest.rows() > 0 {
            let n = per_task.min(rest.rows());
            let (target, others) = rest.split_at(n);
            tasks.push(Mutex::new(Columns { index, output, first, target }));
            (first, rest) = (first + n, others);
        }
    }
    Ok(tasks)
}

/// Tokens multiplied at once, about as many each time.
fn tile_tokens(op: &LinearOp, n_rows: usize) -> usize {
    let at_most = (TILE_BYTES / op.width.max(1)).max(1);
    n_rows.div_ceil(n_rows.div_ceil(at_most))
}

/// Values of the largest tile that a worker makes of a product's columns before they get where
/// they belong.
pub(crate) fn most_tile_values(n_rows: usize) -> usize {
    n_rows * COLUMNS_PER_TASK.end()
}

fn columns_per_task(op: &LinearOp, n_workers: usize) -> usize {
    let columns: usize = op.outputs.iter().map(|output| output.weight.n_rows()).sum();
    let even = columns.div_ceil(n_workers * TASKS_PER_WORKER);
    even.next_multiple_of(*COLUMNS_PER_TASK.start())
        .clamp(*COLUMNS_PER_TASK.start(), *COLUMNS_PER_TASK.end())
}

impl Columns<'_> {
    /// The task's columns for some tokens, whose activations are `x`: where they belong if
    /// the product is all there is to it, else by way of `tile`.
    fn product(
        &mut self,
        x: ActivationView<'_>,
        tokens: Range<usize>,
        additions: Option<&Additions<'_>>,
        tile: &mut Vec<f32>,
    ) -> std::result::Result<(), realm_quant::Error> {
        let (output, n) = (self.output, self.target.rows());
        let mut target = self.target.part(tokens.clone());
        let is_plain = output.bias.is_none() && output.scale == 1.0 && !output.accumulate;
        if is_plain && additions.is_none() {
            return output.weight.matmul(self.first, x, target);
        }
        tile.resize(tokens.len() * n, 0.0);
        output.weight.matmul(self.first, x, OutputView::new(tile, tokens.len(), n)?)?;
        let columns = self.first..self.first + n;
        if let Some(additions) = additions {
            additions.add(self.index, columns.clone(), tokens, tile);
        }
        let bias = output.bias.as_ref().map(|bias| &bias.values()[columns]);
        for (token, values) in tile.chunks_exact_mut(n).enumerate() {
            if let Some(bias) = bias {
                values.iter_mut().zip(bias).for_each(|(value, b)| *value += b);
            }
            if output.scale != 1.0 {
                values.iter_mut().for_each(|value| *value *= output.scale);
            }
            let target = target.token(token);
            match output.accumulate {
                true => target.iter_mut().zip(values).for_each(|(t, value)| *t += *value),
                false => target.copy_from_slice(values),
            }
        }
        Ok(())
    }
}
