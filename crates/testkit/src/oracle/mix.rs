//! Sums of slots, and sparse rows.

use realm_ir::{BatchView, Mix, Sparsify};

use super::State;

pub(super) fn mix(step: &Mix, batch: &BatchView<'_>, state: &mut State) {
    let n_inputs = step.inputs.len();
    for row in 0..state.n_rows(step.weights, batch) {
        let weights = state.slot(step.weights).row(row).to_vec();
        let inputs: Vec<Vec<f32>> =
            step.inputs.iter().map(|input| state.slot(*input).row(row).to_vec()).collect();
        for (out, weights) in step.outputs.iter().zip(weights.chunks_exact(n_inputs)) {
            for (column, value) in state.slot_mut(*out).row_mut(row).iter_mut().enumerate() {
                let before = if step.accumulate { f64::from(*value) } else { 0.0 };
                let terms = weights
                    .iter()
                    .zip(&inputs)
                    .map(|(weight, input)| f64::from(*weight) * f64::from(input[column]));
                *value = (before + terms.sum::<f64>()) as f32;
            }
        }
    }
}

pub(super) fn sparsify(step: &Sparsify, batch: &BatchView<'_>, state: &mut State) {
    for row in 0..state.n_rows(step.values, batch) {
        let values = &mut state.slot_mut(step.values).row_mut(row)[..step.width];
        let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
        let mean = sum / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum();
        let deviation = (squares / (values.len() - 1) as f64).sqrt();
        let least = mean + f64::from(step.deviations) * deviation;
        values.iter_mut().for_each(|value| *value = (f64::from(*value) - least).max(0.0) as f32);
    }
}
