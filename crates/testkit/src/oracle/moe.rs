//! A mixture of experts by its definition: every row by itself.

use std::ops::Range;

use realm_ir::{BatchView, ExpertWeights, Gating, Moe, WeightRef};

use super::State;
use super::steps::{activate, dot, factor};

pub(super) fn moe(step: &Moe, batch: &BatchView<'_>, state: &mut State) {
    for row in 0..state.n_rows(step.input, batch) {
        let width = state.weight(step.router).width;
        let [input, router_input] =
            [step.input, step.router_input].map(|slot| state.slot(slot).row(row)[..width].to_vec());
        let scales = state.vector(step.expert_scales, step.n_experts, 1.0);
        let mut sum = vec![0.0; input.len()];
        for (expert, weight) in choose(step, &logits(step, &router_input, state), state) {
            let weight = weight * f64::from(scales[expert]);
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
    let ExpertWeights { gate, up, down, gate_bias, up_bias, down_bias } = step.experts;
    let inner = state.weight(down).width;
    let rows = |first: usize| first..first + inner;
    let (gate_rows, up_rows) = match gate == Some(up) {
        true => (rows(2 * expert * inner), rows((2 * expert + 1) * inner)),
        false => (rows(expert * inner), rows(expert * inner)),
    };
    let up = product(input, up, up_rows, up_bias, expert, state);
    let gated = match gate {
        Some(gate) => {
            let gate = product(input, gate, gate_rows, gate_bias, expert, state);
            let pairs = gate.iter().zip(&up);
            pairs
                .map(|(g, u)| activate(step.activation, *g) * factor(step.activation, *u))
                .collect()
        }
        None => up.iter().map(|u| activate(step.activation, *u)).collect::<Vec<f64>>(),
    };
    let gated: Vec<f32> = gated.iter().map(|value| *value as f32).collect();
    let width = input.len();
    product(&gated, down, expert * width..(expert + 1) * width, down_bias, expert, state)
}

/// `weight[rows] x input + bias[expert]`
fn product(
    input: &[f32],
    weight: WeightRef,
    rows: Range<usize>,
    bias: Option<WeightRef>,
    expert: usize,
    state: &State,
) -> Vec<f64> {
    let weight = state.weight(weight);
    let bias = bias.map(|bias| state.weight(bias).row(expert).to_vec());
    let column = |(i, row): (usize, usize)| {
        let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
        dot(input, weight.row(row)) + bias
    };
    rows.enumerate().map(column).collect()
}
