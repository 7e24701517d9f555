//! Matrix products: the input's rows are brought into the form that the weights
//! multiply with, then the workers share the output's columns.

use std::ops::Range;
use std::sync::Mutex;

use realm_ir::{BatchView, Result};
use realm_quant::{ActivationForm, ActivationView, Activations, Level, OutputView};

use super::low_rank::Additions;
use super::quantize::quantize_rows;
use super::row::fill_row;
use crate::plan::{LinearOp, OutputOp};
use crate::pool::Team;
use crate::state::{PerWorker, Scratch, SlotBuffers, State};

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
/// `ShapeMismatch` when weights and activations do not fit, which the check of the program rules out.
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
    let State { level, slots, scratch: Scratch { activations, per_worker, .. }, .. } = state;
    let made = quantize(op, forms, activations, slots, (*level, team), n_rows);
    made.map_err(|error| op.outputs[0].weight.misfit(error))?;
    if let Some(additions) = &mut additions {
        additions.multiply_inner(activations, team)?;
    }
    multiply(op, (activations, n_rows), additions.as_ref(), slots, per_worker, team)
}

/// Makes the input's rows, and their quantised forms.
fn quantize(
    op: &LinearOp,
    forms: &[ActivationForm],
    activations: &mut Vec<Activations>,
    slots: &mut SlotBuffers,
    (level, team): (Level, &Team<'_>),
    n_rows: usize,
) -> std::result::Result<(), realm_quant::Error> {
    let _span = tracing::trace_span!("quantize").entered();
    activations.resize_with(activations.len().max(forms.len()), || Activations::new(level));
    for (form, buffer) in forms.iter().zip(activations.iter_mut()) {
        buffer.reset(*form, n_rows, op.width)?;
    }
    let stride = slots.width(op.input);
    let (input, others) = slots.split(op.input);
    let fill = |row: usize, values: &mut [f32]| {
        if let Some(before) = &op.before {
            fill_row(level, before, others, row, values);
        }
    };
    quantize_rows(&mut activations[..forms.len()], input, (n_rows, op.width, stride), team, &fill)
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
    (activations, n_rows): (&[Activations], usize),
    additions: Option<&Additions<'_>>,
    slots: &mut SlotBuffers,
    per_worker: &PerWorker<Vec<f32>>,
    team: &Team<'_>,
) -> Result<()> {
    let _span = tracing::trace_span!("multiply").entered();
    let tasks = split_columns(op, slots, team.n_workers(), n_rows)?;
    let tile_tokens = tile_tokens(op, n_rows);
    team.try_for_each(tasks.len(), &|worker, task| {
        let mut columns = tasks[task].lock().expect("each task locks its own columns once");
        let x = &activations[columns.output.form];
        let mut tile = per_worker.of(worker);
        for first in (0..n_rows).step_by(tile_tokens) {
            let tokens = first..n_rows.min(first + tile_tokens);
            let product = columns.product(x.view(tokens.clone()), tokens, additions, &mut tile);
            product.map_err(|error| columns.output.weight.misfit(error))?;
        }
        Ok(())
    })
}

/// The columns of every task, over all outputs.
fn split_columns<'a>(
    op: &'a LinearOp,
    slots: &'a mut SlotBuffers,
    n_workers: usize,
    n_rows: usize,
) -> Result<Vec<Mutex<Columns<'a>>>> {
    let per_task = columns_per_task(op, n_workers);
    let mut tasks = Vec::new();
    let targets = slots.all_of(op.outputs.iter().map(|output| output.out));
    for (index, (output, (values, stride))) in op.outputs.iter().zip(targets).enumerate() {
        let whole = OutputView::new(&mut values[..n_rows * stride], n_rows, stride);
        let whole = whole.map_err(|error| output.weight.misfit(error))?;
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
