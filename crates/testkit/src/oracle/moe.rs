//! A mixture of experts by its definition: every row by itself.

use realm_ir::{BatchView, ExpertWeights, Gating, Moe, WeightRef};

use super::State;
use super::steps::{activate, dot, factor};

pub(super) fn moe(step: &Moe, batch: &BatchView<'_>, state: &mut State) {
    for row in 0..state.n_rows(step.input, batch) {
        let router = state.weight(step.router);
        let routed = state.slot(step.router_input).row(row)[..router.width].to_vec();
        let input = state.slot(step.input).row(row)[..router.width].to_vec();
        let mut sum = vec![0.0; input.len()];
        for (expert, weight) in choose(step, &logits(step, &routed, state), state) {
            let (before, after) = if step.weigh_input { (weight, 1.0) } else { (1.0, weight) };
            let input: Vec<f32> = input.iter().map(|x| (f64::from(*x) * before) as f32).collect();
            for (sum, value) in sum.iter_mut().zip(run(step, &input, expert, state)) {
                *sum += after * value;
            }
        }
        let out = state.slot_mut(step.out).row_mut(row);
        for (out, sum) in out.iter_mut().zip(sum) {
            *out = (sum + if step.accumulate { f64::from(*out) } else { 0.0 }) as f32;
        }
    }
}

fn logits(step: &Moe, input: &[f32], state: &State) -> Vec<f64> {
    let router = state.weight(step.router);
    let bias = state.vector(step.router_bias, step.n_experts, 0.0);
    (0..step.n_experts).map(|i| dot(input, router.row(i)) + f64::from(bias[i])).collect()
}

/// The chosen experts and their weights, best first.
fn choose(step: &Moe, logits: &[f64], state: &State) -> Vec<(usize, f64)> {
    let scores: Vec<f64> = match step.gating {
        Gating::Softmax => {
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            logits.iter().map(|x| x.exp() / sum).collect()
        }
        Gating::SoftmaxOfChosen => logits.to_vec(),
        Gating::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
    };
    let bias = state.vector(step.choice_bias, step.n_experts, 0.0);
    let ranks: Vec<f64> = scores.iter().zip(&bias).map(|(s, b)| s + f64::from(*b)).collect();
    let mut order = eligible(step, &ranks);
    order.sort_by(|a, b| ranks[*b].total_cmp(&ranks[*a]).then(a.cmp(b)));
    order.truncate(step.n_used);
    let mut weights: Vec<f64> = order.iter().map(|expert| scores[*expert]).collect();
    if step.gating == Gating::SoftmaxOfChosen {
        weights.iter_mut().for_each(|w| *w = w.exp());
    }
    if step.normalize || step.gating == Gating::SoftmaxOfChosen {
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    order.into_iter().zip(weights).map(|(e, w)| (e, w * f64::from(step.scale))).collect()
}

/// Experts of the best groups, ascending.
fn eligible(step: &Moe, ranks: &[f64]) -> Vec<usize> {
    let size = step.n_experts / step.n_groups;
    let two_best = |group: &usize| -> f64 {
        let mut ranks = ranks[group * size..][..size].to_vec();
        ranks.sort_by(|a, b| b.total_cmp(a));
        ranks.iter().take(2).sum()
    };
    let mut groups: Vec<usize> = (0..step.n_groups).collect();
    groups.sort_by(|a, b| two_best(b).total_cmp(&two_best(a)).then(a.cmp(b)));
    groups.truncate(step.n_groups_used);
    let mut experts: Vec<usize> = groups.iter().flat_map(|g| g * size..(g + 1) * size).collect();
    experts.sort_unstable();
    experts
}

/// One expert's result for one row.
fn run(step: &Moe, input: &[f32], expert: usize, state: &State) -> Vec<f64> {
    let ExpertWeights { gate, up, down, .. } = step.experts;
    let weights = &step.experts;
    let inner = state.weight(down).width;
    // Gate and up may share a weight, in which an expert's gate comes first.
    let (stride, up_first) = if gate == Some(up) { (2 * inner, inner) } else { (inner, 0) };
    let up = ExpertRows { weight: up, first: expert * stride + up_first, n: inner };
    let up = product(input, &up, expert, weights.up_scale, weights.up_bias, state);
    let gated = match gate {
        Some(gate) => {
            let gate = ExpertRows { weight: gate, first: expert * stride, n: inner };
            let gate = product(input, &gate, expert, weights.gate_scale, weights.gate_bias, state);
            let pairs = gate.iter().zip(&up);
            pairs
                .map(|(g, u)| activate(step.activation, *g) * factor(step.activation, *u))
                .collect()
        }
        None => up.iter().map(|u| activate(step.activation, *u)).collect::<Vec<f64>>(),
    };
    let gated: Vec<f32> = gated.iter().map(|value| *value as f32).collect();
    let down = ExpertRows { weight: down, first: expert * input.len(), n: input.len() };
    product(&gated, &down, expert, weights.down_scale, weights.down_bias, state)
}

/// Rows of a weight that are one expert's.
struct ExpertRows {
    weight: WeightRef,
    first: usize,
    n: usize,
}

/// `scale[expert] * rows x input + bias[expert]`
fn product(
    input: &[f32],
    rows: &ExpertRows,
    expert: usize,
    scale: Option<WeightRef>,
    bias: Option<WeightRef>,
    state: &State,
) -> Vec<f64> {
    let weight = state.weight(rows.weight);
    let scale = scale.map_or(1.0, |scale| f64::from(state.weight(scale).values[expert]));
    let bias = bias.map(|bias| state.weight(bias).row(expert).to_vec());
    let column = |i: usize| {
        let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
        scale * dot(input, weight.row(rows.first + i)) + bias
    };
    (0..rows.n).map(column).collect()
}
