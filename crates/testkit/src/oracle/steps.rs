//! One function per step, after the formulas in `realm_ir`.

use realm_ir::{
    Activation, Add, Attend, BatchView, Embed, GatedAct, HeadLinear, HeadNorm, Linear,
    LinearOutput, Norm, NormKind, Rope, RopeSpec, RopeStore, RopeStyle, Step, TakeRows, WeightRef,
};

use super::mix::{mix, sparsify};
use super::moe::moe;
use super::recurrent::{conv, delta_net, selective_scan};

use super::State;

/// Runs one step over `batch`, which has been checked.
pub fn run(step: &Step, batch: &BatchView<'_>, state: &mut State) {
    match step {
        Step::Embed(step) => embed(step, batch, state),
        Step::Norm(step) => norm(step, batch, state),
        Step::Linear(step) => linear(step, batch, state),
        Step::RopeStore(step) => rope_store(step, batch, state),
        Step::Rope(step) => rope(step, batch, state),
        Step::Attend(step) => attend(step, batch, state),
        Step::GatedAct(step) => gated_act(step, batch, state),
        Step::Add(step) => add(step, batch, state),
        Step::TakeRows(step) => take_rows(step, batch, state),
        Step::Moe(step) => moe(step, batch, state),
        Step::HeadLinear(step) => head_linear(step, batch, state),
        Step::Mix(step) => mix(step, batch, state),
        Step::Sparsify(step) => sparsify(step, batch, state),
        Step::Conv(step) => conv(step, batch, state),
        Step::DeltaNet(step) => delta_net(step, batch, state),
        Step::SelectiveScan(step) => selective_scan(step, batch, state),
    }
}

/// Sum of the products, in f64.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "a dot product has two sides of one length");
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn embed(step: &Embed, batch: &BatchView<'_>, state: &mut State) {
    for (row, token) in batch.tokens.iter().enumerate() {
        let entry = state.weight(step.table).row(*token as usize).to_vec();
        let mut value: Vec<f32> = entry.iter().map(|value| value * step.scale).collect();
        if let Some(positions) = step.positions {
            let positions = state.weight(positions);
            let last = positions.n_rows() - 1;
            let position = positions.row((batch.positions[row] as usize).min(last));
            value.iter_mut().zip(position).for_each(|(value, p)| *value += p);
        }
        let constant = state.vector(step.constant, value.len(), 0.0);
        value.iter_mut().zip(&constant).for_each(|(value, c)| *value += c);
        state.slot_mut(step.out).row_mut(row)[..value.len()].copy_from_slice(&value);
    }
}

/// `x / sqrt(mean(x^2) + eps)`, after taking the mean away for [`NormKind::Layer`].
fn normalize(x: &[f32], kind: NormKind, epsilon: f32) -> Vec<f64> {
    let mean_of = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    if kind == NormKind::Layer {
        let mean = mean_of(&x);
        x.iter_mut().for_each(|x| *x -= mean);
    }
    let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
    let root = (mean_of(&squares) + f64::from(epsilon)).sqrt();
    x.iter().map(|x| x / root).collect()
}

/// A factor or term per column: given for a whole row, or for one group of it.
fn per_column(state: &State, weight: Option<WeightRef>, step: &Norm, default: f32) -> Vec<f32> {
    match weight {
        Some(weight) if state.weight(weight).values.len() == step.width => {
            state.weight(weight).values.repeat(step.groups)
        }
        weight => state.vector(weight, step.groups * step.width, default),
    }
}

fn norm(step: &Norm, batch: &BatchView<'_>, state: &mut State) {
    let weight = per_column(state, step.weight, step, 1.0);
    let bias = per_column(state, step.bias, step, 0.0);
    for row in 0..state.n_rows(step.input, batch) {
        let mut values = state.slot(step.input).row(row).to_vec();
        for group in 0..step.groups {
            let first = group * step.width;
            let normal = normalize(&values[first..][..step.width], step.kind, step.epsilon);
            for (i, normal) in normal.iter().enumerate() {
                let column = first + i;
                values[column] =
                    (normal * f64::from(weight[column]) + f64::from(bias[column])) as f32;
            }
        }
        state.slot_mut(step.out).row_mut(row).copy_from_slice(&values);
    }
}

fn linear(step: &Linear, batch: &BatchView<'_>, state: &mut State) {
    for output in &step.outputs {
        for row in 0..state.n_rows(step.input, batch) {
            let width = state.weight(output.weight).width;
            let input = state.slot(step.input).row(row)[..width].to_vec();
            linear_row(output, row, &input, state);
        }
    }
}

fn linear_row(output: &LinearOutput, row: usize, input: &[f32], state: &mut State) {
    let weight = state.weight(output.weight);
    let bias = state.vector(output.bias, weight.n_rows(), 0.0);
    let products: Vec<f64> = (0..weight.n_rows())
        .map(|column| {
            f64::from(output.scale) * (dot(input, weight.row(column)) + f64::from(bias[column]))
        })
        .collect();
    let out = state.slot_mut(output.out).row_mut(row);
    for (out, product) in out.iter_mut().zip(products) {
        let before = if output.accumulate { f64::from(*out) } else { 0.0 };
        *out = (before + product) as f32;
    }
}

/// Turns the pairs of one head by their angles at `position`.
fn rotate(head: &mut [f32], rope: &RopeSpec, position: u32) {
    for (pair, frequency) in rope.inverse_frequencies.iter().enumerate() {
        let (i, j) = match rope.style {
            RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
            RopeStyle::Halves => (pair, pair + rope.n_dims() / 2),
        };
        let (i, j) = (rope.offset + i, rope.offset + j);
        let (sin, cos) = (f64::from(position) * f64::from(*frequency)).sin_cos();
        let (sin, cos) = (sin * f64::from(rope.magnitude), cos * f64::from(rope.magnitude));
        let (x, y) = (f64::from(head[i]), f64::from(head[j]));
        head[i] = (x * cos - y * sin) as f32;
        head[j] = (x * sin + y * cos) as f32;
    }
}

/// Normalises and rotates every head of one row.
fn prepare_heads(
    row: &mut [f32],
    head_width: usize,
    norm: Option<(&[f32], &HeadNorm)>,
    rope: Option<&RopeSpec>,
    position: u32,
) {
    let apply = |head: &mut [f32], after_rope: bool| {
        if let Some((weight, norm)) = norm.filter(|(_, norm)| norm.after_rope == after_rope) {
            let normal = normalize(head, NormKind::Rms, norm.epsilon);
            for column in 0..head_width {
                head[column] = (normal[column] * f64::from(weight[column])) as f32;
            }
        }
    };
    for head in row.chunks_exact_mut(head_width) {
        apply(head, false);
        if let Some(rope) = rope {
            rotate(head, rope, position);
        }
        apply(head, true);
    }
}

fn rope_store(step: &RopeStore, batch: &BatchView<'_>, state: &mut State) {
    let shape = state.kv.shape(step.kv_layer);
    let width = shape.key_width;
    let (q_len, k_len) = (step.n_heads * width, shape.n_kv_heads * width);
    let v_len = shape.n_kv_heads * shape.value_width;
    let norm = step.head_norm.as_ref();
    let q_norm = norm.map(|norm| (state.vector(Some(norm.q_weight), width, 1.0), norm));
    let k_norm = norm.map(|norm| (state.vector(Some(norm.k_weight), width, 1.0), norm));
    let q_norm = q_norm.as_ref().map(|(weight, norm)| (weight.as_slice(), *norm));
    let k_norm = k_norm.as_ref().map(|(weight, norm)| (weight.as_slice(), *norm));
    let rope = step.rope.as_ref();

    for sequence in batch.sequences {
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            let position = batch.positions[row];
            let value = state.slot(step.v).row(row)[..v_len].to_vec();
            let q = &mut state.slot_mut(step.q).row_mut(row)[..q_len];
            prepare_heads(q, width, q_norm, rope, position);
            if let Some(temperature) = &step.temperature {
                let steps = (position + temperature.offset) / temperature.length;
                let factor = 1.0 + f64::from(temperature.scale) * (1.0 + f64::from(steps)).ln();
                q.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
            }
            let k = &mut state.slot_mut(step.k).row_mut(row)[..k_len];
            prepare_heads(k, width, k_norm, rope, position);
            let key = k.to_vec();
            state.kv.store(step.kv_layer, sequence.pages, position as usize, &key, &value);
        }
    }
}

fn rope(step: &Rope, batch: &BatchView<'_>, state: &mut State) {
    let len = step.n_heads * step.head_width;
    for (row, position) in batch.positions.iter().enumerate() {
        let heads = &mut state.slot_mut(step.heads).row_mut(row)[..len];
        prepare_heads(heads, step.head_width, None, Some(&step.rope), *position);
    }
}

fn attend(step: &Attend, batch: &BatchView<'_>, state: &mut State) {
    let kv_shape = state.kv.shape(step.kv_layer);
    let sinks = step.sinks.map(|sinks| state.weight(sinks).values.clone());
    for sequence in batch.sequences {
        let rows = sequence.first_row..sequence.first_row + sequence.n_rows;
        let Some(last_row) = rows.clone().last() else { continue };
        for row in rows {
            let position = batch.positions[row] as usize;
            let last = if step.causal { position } else { batch.positions[last_row] as usize };
            let is_seen = |at: &usize| match step.window.map(|window| window as usize) {
                None => true,
                Some(window) if step.chunked => at / window >= position / window,
                Some(window) if step.causal => position - at < window,
                Some(window) => at.abs_diff(position) <= window / 2,
            };
            let seen: Vec<usize> = (0..=last).filter(is_seen).collect();
            for head in 0..step.n_heads {
                let kv_head = head / (step.n_heads / kv_shape.n_kv_heads);
                let query =
                    &state.slot(step.q).row(row)[head * kv_shape.key_width..][..kv_shape.key_width];
                let slope = step.alibi_max_bias.map_or(0.0, |max| slope(head, step.n_heads, max));
                let mut scores: Vec<f64> = seen
                    .iter()
                    .map(|at| {
                        let key = state.kv.key(step.kv_layer, sequence.pages, *at, kv_head);
                        score(step, query, key) - slope * position.abs_diff(*at) as f64
                    })
                    .collect();
                scores.extend(sinks.as_ref().map(|sinks| f64::from(sinks[head])));
                let mut mixed = vec![0.0; kv_shape.value_width];
                for (at, weight) in seen.iter().zip(softmax(&scores)) {
                    let value = state.kv.value(step.kv_layer, sequence.pages, *at, kv_head);
                    for (mixed, value) in mixed.iter_mut().zip(value) {
                        *mixed += weight * f64::from(*value);
                    }
                }
                let out = state.slot_mut(step.out).row_mut(row);
                let out = &mut out[head * kv_shape.value_width..][..kv_shape.value_width];
                for (out, mixed) in out.iter_mut().zip(mixed) {
                    *out = mixed as f32;
                }
            }
        }
    }
}

/// How much a head's score falls per position of distance: a geometric series
/// over the largest power of two of heads, then every other term of the next one.
fn slope(head: usize, n_heads: usize, max_bias: f32) -> f64 {
    let n = n_heads.next_power_of_two() >> usize::from(!n_heads.is_power_of_two());
    let exponent = |n: usize, k: usize| -f64::from(max_bias) * k as f64 / n as f64;
    if head < n { exponent(n, head + 1).exp2() } else { exponent(2 * n, 2 * (head - n) + 1).exp2() }
}

fn score(step: &Attend, query: &[f32], key: &[f32]) -> f64 {
    let score = f64::from(step.scale) * dot(query, key);
    match step.softcap.map(f64::from) {
        Some(cap) => cap * (score / cap).tanh(),
        None => score,
    }
}

/// `exp(x - max)` over its sum; empty for no scores.
fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The activation functions by their definitions.
pub fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::ClampedSwiglu => {
            let x = x.min(7.0);
            x / (1.0 + (-1.702 * x).exp())
        }
        Activation::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
        Activation::Clamp(bound) => x.clamp(-f64::from(bound), f64::from(bound)),
        Activation::Xielu { positive, negative, beta, epsilon } => {
            let [positive, negative, beta] = [positive, negative, beta].map(f64::from);
            match x > 0.0 {
                true => positive * x * x + beta * x,
                false => negative * (x.min(f64::from(epsilon)).exp_m1() - x) + beta * x,
            }
        }
    }
}

/// What the gate's activation is multiplied with.
pub(super) fn factor(activation: Activation, up: f64) -> f64 {
    match activation {
        Activation::ClampedSwiglu => 1.0 + up.clamp(-7.0, 7.0),
        _ => up,
    }
}

/// The error function by the series of Abramowitz and Stegun 7.1.6, whose terms
/// all have one sign: `2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n + 1) / (2n + 1)!!`.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn gated_act(step: &GatedAct, batch: &BatchView<'_>, state: &mut State) {
    for row in 0..state.n_rows(step.gate, batch) {
        let gate_width = state.slot(step.gate).width;
        for column in 0..state.slot(step.out).width {
            let gate = state.slot(step.gate).row(row)[if gate_width == 1 { 0 } else { column }];
            let up = step.up.map_or(1.0, |up| {
                factor(step.activation, f64::from(state.slot(up).row(row)[step.up_offset + column]))
            });
            let value = activate(step.activation, f64::from(gate)) * up;
            state.slot_mut(step.out).row_mut(row)[column] = value as f32;
        }
    }
}

fn add(step: &Add, batch: &BatchView<'_>, state: &mut State) {
    for row in 0..state.n_rows(step.a, batch) {
        for column in 0..state.slot(step.a).width {
            let a = f64::from(state.slot(step.a).row(row)[column]);
            let b = f64::from(state.slot(step.b).row(row)[column]);
            let value = f64::from(step.a_scale) * a + f64::from(step.scale) * b;
            state.slot_mut(step.out).row_mut(row)[column] = value as f32;
        }
    }
}

fn take_rows(step: &TakeRows, batch: &BatchView<'_>, state: &mut State) {
    for (to, from) in batch.output_rows.iter().enumerate() {
        let values = state.slot(step.input).row(*from as usize).to_vec();
        state.slot_mut(step.out).row_mut(to).copy_from_slice(&values);
    }
}

fn head_linear(step: &HeadLinear, batch: &BatchView<'_>, state: &mut State) {
    let (in_len, out_len) = (step.in_width + step.rest, step.out_width + step.rest);
    for row in 0..state.n_rows(step.input, batch) {
        for head in 0..step.n_heads {
            let values = state.slot(step.input).row(row)[head * in_len..][..in_len].to_vec();
            let (input, rest) = values.split_at(step.in_width);
            let weight = state.weight(step.weight);
            let column = |i: usize| dot(input, weight.row(head * step.out_width + i)) as f32;
            let mut out: Vec<f32> = (0..step.out_width).map(column).collect();
            out.extend_from_slice(rest);
            state.slot_mut(step.out).row_mut(row)[head * out_len..][..out_len]
                .copy_from_slice(&out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_take_their_textbook_values() {
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        near(activate(Activation::Silu, 0.0), 0.0);
        near(activate(Activation::Silu, 1.0), 0.731_058_578_630_004_9);
        near(erf(0.5), 0.520_499_877_813_046_5);
        near(erf(-2.0), -0.995_322_265_018_952_7);
        near(erf(5.9), 1.0);
        near(activate(Activation::GeluErf, 1.0), 0.841_344_746_068_542_9);
        near(activate(Activation::Softcap(30.0), 1e9), 30.0);
        assert!((activate(Activation::GeluTanh, 1.0) - 0.841_191_990_608_302_8).abs() < 1e-12);
    }
}
