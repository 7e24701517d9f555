//! A mixture of experts: rows are grouped by expert, so that an expert's weights
//! are read once for all rows that chose it, and those of others not at all.

use realm_ir::{BatchView, Error, Gating, Moe, Result, Slot};
use realm_quant::{ActivationForm, Activations, Level, OutputView};

use super::low_rank::{AdaptedRows, MatrixPart, adapted_rows, adapters_of_row, add_product};
use super::quantize::quantize_rows;
use crate::math;
use crate::parts::Parts;
use crate::plan::{ExpertMatrix, MoeOp};
use crate::pool::Team;
use crate::state::State;

/// Output columns of one task.
const COLUMNS_PER_TASK: usize = 64;

/// One row at one expert.
#[derive(Clone, Copy)]
struct Visit {
    row: usize,
    weight: f32,
    /// Place among the row's chosen experts: sums are taken in this order.
    place: usize,
}

/// The rows that chose an expert, one after another in the buffers below.
struct Group {
    expert: usize,
    /// First of its visits in the buffers.
    first: usize,
    visits: Vec<Visit>,
}

/// Runs the experts that rows choose.
///
/// # Errors
/// `ShapeMismatch` when weights and activations do not fit, which the check of the program rules out.
pub(crate) fn moe(
    op: &MoeOp,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) -> Result<()> {
    let n_rows = state.slots.n_rows(op.step.input, batch);
    let adapted = adapted_rows(state.slots.rows(op.step.input), batch);
    let groups = route(op, rows(op, op.step.router_input, state, n_rows), n_rows, &adapted)?;
    let inputs: Vec<&[f32]> = rows(op, op.step.input, state, n_rows).collect();
    let results = run_experts(op, &groups, &inputs, &adapted, team)?;
    add_up(op, &groups, &results, n_rows, state);
    Ok(())
}

/// What router or experts read.
fn rows<'a>(
    op: &MoeOp,
    slot: Slot,
    state: &'a State,
    n_rows: usize,
) -> impl Iterator<Item = &'a [f32]> + Clone {
    let (stride, width) = (state.slots.width(slot), op.router.row_len());
    state.slots.get(slot).chunks_exact(stride).take(n_rows).map(move |row| &row[..width])
}

/// Groups of rows by expert.
fn route<'a>(
    op: &MoeOp,
    rows: impl Iterator<Item = &'a [f32]> + Clone,
    n_rows: usize,
    adapted: &[AdaptedRows<'_>],
) -> Result<Vec<Group>> {
    let (step, width) = (&op.step, op.router.row_len());
    let misfit = |error| op.router.misfit(error);
    let mut activations = Activations::new(op.router.level());
    activations.reset(op.router.format().activation, n_rows, width).map_err(misfit)?;
    let mut logits = vec![0.0; n_rows * step.n_experts];
    for (row, values) in rows.clone().enumerate() {
        activations.quantize_row(row, values).map_err(misfit)?;
    }
    let out = OutputView::new(&mut logits, n_rows, step.n_experts).map_err(misfit)?;
    op.router.matmul(0, activations.view(0..n_rows), out).map_err(misfit)?;
    if !adapted.is_empty() {
        let router = op.router.reference();
        let whole = MatrixPart { matrix: 0, n_matrices: 1, first_row: 0, n_rows: step.n_experts };
        for (row, (x, logits)) in rows.zip(logits.chunks_exact_mut(step.n_experts)).enumerate() {
            add_product(adapters_of_row(adapted, row), router, whole, x, logits)?;
        }
    }

    let mut visits: Vec<Vec<Visit>> = vec![Vec::new(); step.n_experts];
    let choice_bias = op.choice_bias.as_ref().map(|bias| bias.values());
    for (row, logits) in logits.chunks_exact_mut(step.n_experts).enumerate() {
        if let Some(bias) = &op.router_bias {
            logits.iter_mut().zip(bias.values()).for_each(|(logit, b)| *logit += b);
        }
        for (place, (expert, weight)) in
            choose(op.router.level(), step, logits, choice_bias).into_iter().enumerate()
        {
            visits[expert].push(Visit { row, weight, place });
        }
    }
    let mut first = 0;
    let mut groups = Vec::new();
    for (expert, visits) in visits.into_iter().enumerate().filter(|(_, v)| !v.is_empty()) {
        let n = visits.len();
        groups.push(Group { expert, first, visits });
        first += n;
    }
    Ok(groups)
}

/// The chosen experts of one row and their weights, best first. `logits` become scores.
fn choose(
    level: Level,
    step: &Moe,
    logits: &mut [f32],
    choice_bias: Option<&[f32]>,
) -> Vec<(usize, f32)> {
    match step.gating {
        Gating::Softmax => {
            let (_, sum) = math::softmax_weights(level, logits);
            logits.iter_mut().for_each(|score| *score /= sum);
        }
        Gating::SoftmaxOfChosen => {}
        Gating::Sigmoid => math::gated(level, realm_ir::Activation::Sigmoid, logits, None),
    }
    let rank = |expert: usize| logits[expert] + choice_bias.map_or(0.0, |bias| bias[expert]);
    let mut order = eligible(step, rank);
    order.sort_by(|a, b| rank(*b).total_cmp(&rank(*a)).then(a.cmp(b)));
    order.truncate(step.n_used);
    let mut weights: Vec<f32> = order.iter().map(|expert| logits[*expert]).collect();
    if step.gating == Gating::SoftmaxOfChosen {
        let (_, sum) = math::softmax_weights(level, &mut weights);
        weights.iter_mut().for_each(|weight| *weight /= sum);
    } else if step.normalize {
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    order.into_iter().zip(weights).map(|(expert, weight)| (expert, weight * step.scale)).collect()
}

/// Experts of the groups that can be chosen from.
fn eligible(step: &Moe, rank: impl Fn(usize) -> f32) -> Vec<usize> {
    if step.n_groups_used == step.n_groups {
        return (0..step.n_experts).collect();
    }
    let size = step.n_experts / step.n_groups;
    let two_best = |group: usize| {
        let mut ranks: Vec<f32> = (group * size..(group + 1) * size).map(&rank).collect();
        ranks.sort_by(|a, b| b.total_cmp(a));
        ranks.iter().take(2).sum::<f32>()
    };
    let mut groups: Vec<(usize, f32)> = (0..step.n_groups).map(|g| (g, two_best(g))).collect();
    groups.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    groups.truncate(step.n_groups_used);
    groups.into_iter().flat_map(|(group, _)| group * size..(group + 1) * size).collect()
}

/// Every visit's result, `[visits, width]`, in the order of the groups.
fn run_experts(
    op: &MoeOp,
    groups: &[Group],
    rows: &[&[f32]],
    adapted: &[AdaptedRows<'_>],
    team: &Team<'_>,
) -> Result<Vec<f32>> {
    let width = op.router.row_len();
    let visits: Vec<Visit> = groups.iter().flat_map(|group| group.visits.clone()).collect();
    let multiply = |matrices: &[&ExpertMatrix], inputs: &Inputs| {
        let mut outs = products(matrices, groups, inputs, team)?;
        if !adapted.is_empty() {
            for (matrix, out) in matrices.iter().zip(&mut outs) {
                let adapters = (op.step.n_experts, adapted);
                add_low_rank(matrix, groups, &inputs.values, adapters, out, team)?;
            }
        }
        Ok::<_, Error>(outs)
    };

    let matrices: Vec<&ExpertMatrix> = op.gate.iter().chain([&op.up]).collect();
    let gather = |visit: usize, target: &mut [f32]| {
        let Visit { row, weight, .. } = visits[visit];
        let scale = if op.step.weigh_input { weight } else { 1.0 };
        target.iter_mut().zip(rows[row]).for_each(|(target, x)| *target = x * scale);
    };
    let values = vec![0.0; visits.len() * width];
    let inputs = Inputs::new(values, &matrices, team, &gather);
    let inputs = inputs.map_err(|error| op.up.weight.misfit(error))?;
    let mut outs = multiply(&matrices, &inputs)?;

    let up = if op.gate.is_some() { outs.pop() } else { None };
    let inner_width = op.down.weight.row_len();
    let activate = |visit: usize, target: &mut [f32]| {
        let up = up.as_ref().map(|up| &up[visit * inner_width..][..inner_width]);
        math::gated(op.down.weight.level(), op.step.activation, target, up);
    };
    let values = outs.pop().unwrap_or_default();
    let inputs = Inputs::new(values, &[&op.down], team, &activate);
    let inputs = inputs.map_err(|error| op.down.weight.misfit(error))?;
    Ok(multiply(&[&op.down], &inputs)?.pop().unwrap_or_default())
}

/// Bytes that [`run_experts`] holds at most for each visit of an expert whose matrices have rows
/// of `width` (up) and `inner` values (down) in these forms.
pub(crate) fn bytes_per_visit(
    width: usize,
    inner: usize,
    (up, down): (ActivationForm, ActivationForm),
    has_gate: bool,
) -> usize {
    let n_inner = if has_gate { 2 } else { 1 };
    let inputs = 4 * width + Activations::row_bytes(up, width);
    let inner_values = 4 * n_inner * inner;
    let outputs = Activations::row_bytes(down, inner) + 4 * width;
    inputs + inner_values + outputs
}

/// A row for every visit, and what the experts' matrices multiply with.
struct Inputs {
    values: Vec<f32>,
    /// One per form that any of the matrices wants.
    activations: Vec<Activations>,
}

impl Inputs {
    /// Calls `fill(visit, row)` for each row of `values` and rounds it. A task is some visits.
    fn new(
        mut values: Vec<f32>,
        matrices: &[&ExpertMatrix],
        team: &Team<'_>,
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) -> std::result::Result<Self, realm_quant::Error> {
        let width = matrices.first().map_or(1, |matrix| matrix.weight.row_len());
        let n_visits = values.len() / width;
        let mut activations: Vec<Activations> = Vec::new();
        for weight in matrices.iter().map(|matrix| &matrix.weight) {
            let form = weight.format().activation;
            if activations.iter().all(|made| made.form() != form) {
                let mut new = Activations::new(weight.level());
                new.reset(form, n_visits, width)?;
                activations.push(new);
            }
        }
        quantize_rows(&mut activations, &mut values, (n_visits, width, width), team, fill)?;
        Ok(Inputs { values, activations })
    }

    /// The rows as `matrix` multiplies with them.
    fn of(&self, matrix: &ExpertMatrix) -> &Activations {
        let form = matrix.weight.format().activation;
        let made = self.activations.iter().find(|made| made.form() == form);
        made.expect("made for these matrices")
    }
}

/// Some of the experts' matrices, each times the rows of its group. A task is some columns
/// of one expert.
fn products(
    matrices: &[&ExpertMatrix],
    groups: &[Group],
    inputs: &Inputs,
    team: &Team<'_>,
) -> Result<Vec<Vec<f32>>> {
    let n_visits: usize = groups.iter().map(|group| group.visits.len()).sum();
    let mut outs: Vec<_> = matrices.iter().map(|m| vec![0.0; n_visits * m.n_rows]).collect();
    let parts: Vec<_> = outs.iter_mut().map(|out| Parts::new(out)).collect();
    let mut tasks = Vec::new();
    // Expert by expert, so that what lies together in the file is read together.
    for group in groups {
        for (matrix, parts) in matrices.iter().zip(&parts) {
            let firsts = (0..matrix.n_rows).step_by(COLUMNS_PER_TASK);
            tasks.extend(firsts.map(|first| (group, *matrix, parts, first)));
        }
    }
    team.try_for_each(tasks.len(), &|_, task| {
        let (group, matrix, parts, first) = tasks[task];
        product(matrix, group, inputs.of(matrix), first, parts)
            .map_err(|error| matrix.weight.misfit(error))
    })?;
    drop(tasks);
    drop(parts);
    Ok(outs)
}

/// Columns from `first` on, up to a task's worth, of the rows of one group. Only one task
/// has them.
fn product(
    matrix: &ExpertMatrix,
    group: &Group,
    inputs: &Activations,
    first: usize,
    out: &Parts<'_, f32>,
) -> std::result::Result<(), realm_quant::Error> {
    let n_out = matrix.n_rows;
    let n = COLUMNS_PER_TASK.min(n_out - first);
    let x = inputs.view(group.first..group.first + group.visits.len());
    let first_row = group.expert * matrix.stride + matrix.first_row + first;
    let mut tile = vec![0.0; group.visits.len() * n];
    matrix.weight.matmul(first_row, x, OutputView::new(&mut tile, x.rows(), n)?)?;
    let scale = matrix.scale.as_ref().map(|scale| scale.values()[group.expert]);
    let bias = matrix.bias.as_ref().map(|bias| &bias.values()[group.expert * n_out + first..]);
    for (visit, values) in tile.chunks_exact(n).enumerate() {
        let start = (group.first + visit) * n_out + first;
        // SAFETY: these columns of a group's visits belong to one task.
        let target = unsafe { out.part(start..start + n) };
        target.copy_from_slice(values);
        if let Some(scale) = scale {
            target.iter_mut().for_each(|value| *value *= scale);
        }
        if let Some(bias) = bias {
            target.iter_mut().zip(bias).for_each(|(value, b)| *value += b);
        }
    }
    Ok(())
}

/// What adapters add to the products of the rows that run with them. A task is a visit.
fn add_low_rank(
    matrix: &ExpertMatrix,
    groups: &[Group],
    inputs: &[f32],
    (n_experts, adapted): (usize, &[AdaptedRows<'_>]),
    out: &mut [f32],
    team: &Team<'_>,
) -> Result<()> {
    let (width, n_out) = (matrix.weight.row_len(), matrix.n_rows);
    let visits: Vec<_> = groups
        .iter()
        .flat_map(|group| group.visits.iter().map(|visit| (visit.row, group.expert)))
        .collect();
    let parts = Parts::new(out);
    team.try_for_each(visits.len(), &|_, visit| {
        let (row, expert) = visits[visit];
        // SAFETY: each visit belongs to one task.
        let target = unsafe { parts.part(visit * n_out..(visit + 1) * n_out) };
        let x = &inputs[visit * width..][..width];
        let (adapters, weight) = (adapters_of_row(adapted, row), matrix.weight.reference());
        let part = MatrixPart {
            matrix: expert,
            n_matrices: n_experts,
            first_row: matrix.first_row,
            n_rows: matrix.stride,
        };
        add_product(adapters, weight, part, x, target)
    })
}

/// Sums each row's results in the order of its choice.
fn add_up(op: &MoeOp, groups: &[Group], results: &[f32], n_rows: usize, state: &mut State) {
    let (width, stride) = (op.down.n_rows, state.slots.width(op.step.out));
    // For each row, where its results are.
    let mut places = vec![(0, 0.0); n_rows * op.step.n_used];
    for group in groups {
        for (i, visit) in group.visits.iter().enumerate() {
            let weight = if op.step.weigh_input { 1.0 } else { visit.weight };
            places[visit.row * op.step.n_used + visit.place] = (group.first + i, weight);
        }
    }
    let rows = state.slots.get_mut(op.step.out).chunks_exact_mut(stride);
    for (row, places) in rows.zip(places.chunks_exact(op.step.n_used)) {
        let row = &mut row[..width];
        if !op.step.accumulate {
            row.fill(0.0);
        }
        for (place, weight) in places {
            let result = &results[place * width..][..width];
            row.iter_mut().zip(result).for_each(|(value, r)| *value += weight * r);
        }
    }
}
