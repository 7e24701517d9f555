//! Recurrent steps by their definitions, one row after another.

use realm_ir::{BatchView, Conv, DeltaNet, SelectiveScan, SequenceView};

use super::State;
use super::steps::{activate, dot};

/// The state that a sequence continues from: zeros at position 0.
fn begin(
    batch: &BatchView<'_>,
    sequence: &SequenceView<'_>,
    step: usize,
    state: &mut State,
) -> Vec<f32> {
    let values = state.recurrent(sequence.state, step);
    if sequence.n_rows > 0 && batch.positions[sequence.first_row] == 0 {
        values.fill(0.0);
    }
    values.clone()
}

pub(super) fn conv(step: &Conv, batch: &BatchView<'_>, state: &mut State) {
    let taps = state.weight(step.weight).width;
    let width = state.weight(step.weight).n_rows();
    let bias = state.vector(step.bias, width, 0.0);
    for sequence in batch.sequences {
        let mut inputs = begin(batch, sequence, step.state, state);
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            inputs.extend_from_slice(&state.slot(step.input).row(row)[..width]);
            for column in 0..width {
                let past: Vec<f32> = (0..taps).map(|tap| inputs[tap * width + column]).collect();
                let sum = dot(state.weight(step.weight).row(column), &past);
                let value = activate(step.activation, sum + f64::from(bias[column])) as f32;
                state.slot_mut(step.out).row_mut(row)[column] = value;
            }
            inputs.drain(..width);
        }
        *state.recurrent(sequence.state, step.state) = inputs;
    }
}

pub(super) fn delta_net(step: &DeltaNet, batch: &BatchView<'_>, state: &mut State) {
    for sequence in batch.sequences {
        let mut memory = begin(batch, sequence, step.state, state);
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            for head in 0..step.n_value_heads {
                let len = step.key_width * step.value_width;
                let memory = &mut memory[head * len..][..len];
                let out = head_of_row(step, row, head, memory, state);
                state.slot_mut(step.out).row_mut(row)[head * step.value_width..]
                    [..step.value_width]
                    .copy_from_slice(&out);
            }
        }
        *state.recurrent(sequence.state, step.state) = memory;
    }
}

/// Updates one head's memory and reads it.
fn head_of_row(
    step: &DeltaNet,
    row: usize,
    head: usize,
    memory: &mut [f32],
    state: &State,
) -> Vec<f32> {
    let qkv = state.slot(step.qkv).row(row);
    let keys = step.n_key_heads * step.key_width;
    // Neighbours share a key head, or those a number of key heads apart.
    let key_head = match step.grouped {
        true => head * step.n_key_heads / step.n_value_heads,
        false => head % step.n_key_heads,
    } * step.key_width;
    let unit = |first: usize| -> Vec<f64> {
        let vector = &qkv[first..][..step.key_width];
        let length = (dot(vector, vector) + f64::from(step.epsilon)).sqrt();
        vector.iter().map(|x| f64::from(*x) / length).collect()
    };
    let (query, key) = (unit(key_head), unit(keys + key_head));
    let value = &qkv[2 * keys + head * step.value_width..][..step.value_width];
    let one = |slot| f64::from(state.slot(slot).row(row)[head]);
    let alpha = one(step.alpha) + f64::from(state.weight(step.bias).values[head]);
    let softplus = alpha.exp().ln_1p();
    let decay = (f64::from(state.weight(step.decay).values[head]) * softplus).exp();
    let rate = 1.0 / (1.0 + (-one(step.beta)).exp());

    let mut out = Vec::new();
    for (column, value) in value.iter().enumerate() {
        let cell = |k: usize| k * step.value_width + column;
        let decayed: Vec<f64> =
            (0..step.key_width).map(|k| decay * f64::from(memory[cell(k)])).collect();
        let said: f64 = decayed.iter().zip(&key).map(|(m, k)| m * k).sum();
        let delta = rate * (f64::from(*value) - said);
        let mut sum = 0.0;
        for k in 0..step.key_width {
            let new = decayed[k] + key[k] * delta;
            memory[cell(k)] = new as f32;
            sum += query[k] * new;
        }
        out.push((sum / (step.key_width as f64).sqrt()) as f32);
    }
    out
}

pub(super) fn selective_scan(step: &SelectiveScan, batch: &BatchView<'_>, state: &mut State) {
    for sequence in batch.sequences {
        let mut memory = begin(batch, sequence, step.state, state);
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            for value in 0..step.n_heads * step.head_width {
                let cells = &mut memory[value * step.state_width..][..step.state_width];
                let result = scan_value(step, row, value, cells, state);
                state.slot_mut(step.out).row_mut(row)[value] = result as f32;
            }
        }
        *state.recurrent(sequence.state, step.state) = memory;
    }
}

/// Updates what one value of a row keeps, and reads it.
fn scan_value(
    step: &SelectiveScan,
    row: usize,
    value: usize,
    cells: &mut [f32],
    state: &State,
) -> f64 {
    let head = value / step.head_width;
    let group = head * step.n_groups / step.n_heads;
    let at = |slot, column: usize| f64::from(state.slot(slot).row(row)[column]);
    let factor = |weight, index: usize| f64::from(state.weight(weight).values[index]);
    let time = (at(step.dt, head) + factor(step.bias, head)).exp().ln_1p();
    let x = at(step.x, value);
    let mut sum = factor(step.skip, head) * x;
    for (i, cell) in cells.iter_mut().enumerate() {
        let decays = state.weight(step.decay).row(head);
        let decay = f64::from(decays[if decays.len() == 1 { 0 } else { i }]);
        let column = group * step.state_width + i;
        let new = (time * decay).exp() * f64::from(*cell) + time * x * at(step.b, column);
        sum += new * at(step.c, column);
        *cell = new as f32;
    }
    sum
}
