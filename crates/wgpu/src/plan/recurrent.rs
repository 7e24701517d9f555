//! Steps that carry a state from row to row.

use bytemuck::cast_slice;
use realm_ir::{Conv, DeltaNet, Result, SelectiveScan};

use super::{Dispatch, Planner, count, flag, refuse};
use crate::activation;
use crate::kernel::{CONV, CONV_STATE, DELTA_NET, SELECTIVE_SCAN, THREADS};

/// Values of a state that a workgroup keeps, beside its other workgroup memory.
const MAX_CELLS: usize = 2048;

/// Largest power of two, at most `most`, of columns of `height` values that a workgroup keeps.
fn columns(height: usize, most: usize) -> Result<usize> {
    let fitting = MAX_CELLS.checked_div(height).and_then(usize::checked_ilog2);
    let Some(exponent) = fitting else {
        return Err(refuse(format!("a recurrent state of {height} values per column")));
    };
    Ok((1 << exponent).min(most))
}

impl<'a> Planner<'a> {
    pub(super) fn conv(&mut self, step: &Conv) -> Result<Vec<Dispatch>> {
        let weight = &self.weights[step.weight.0];
        let (taps, width) = (weight.width, weight.n_rows);
        let states = &self.memory.states[step.state];
        let shape = vec![
            ("width", count(width)),
            ("taps", count(taps)),
            ("input_width", count(self.width(step.input))),
        ];
        let mut constants = activation::constants(step.activation);
        constants.extend(shape.clone());
        constants.extend([
            ("out_width", count(self.width(step.out))),
            ("has_bias", flag(step.bias.is_some())),
        ]);
        let weight = self.vector(Some(step.weight), taps * width, "Conv")?;
        let bias = self.vector(step.bias, width, "Conv")?;
        let input = self.slot(step.input);
        let n_groups = width.div_ceil(THREADS);
        let operands = [input, &weight, &bias, states, self.slot(step.out)];
        let conv = self.rowwise(&CONV, &constants, &operands, n_groups, step.out);
        Ok(vec![conv, self.per_sequence(&CONV_STATE, &shape, &[input, states], n_groups)])
    }

    pub(super) fn delta_net(&mut self, step: &DeltaNet) -> Result<Vec<Dispatch>> {
        let states = &self.memory.states[step.state];
        let columns = columns(step.key_width, 16)?;
        let constants = vec![
            ("n_key_heads", count(step.n_key_heads)),
            ("n_value_heads", count(step.n_value_heads)),
            ("grouped", flag(step.grouped)),
            ("key_width", count(step.key_width)),
            ("value_width", count(step.value_width)),
            ("qkv_width", count(self.width(step.qkv))),
            ("alpha_width", count(self.width(step.alpha))),
            ("beta_width", count(self.width(step.beta))),
            ("out_width", count(self.width(step.out))),
            ("epsilon", step.epsilon.into()),
            ("columns", count(columns)),
        ];
        let values = |weight| self.vector_values(weight, step.n_value_heads, "DeltaNet");
        let (decay, bias) = (values(step.decay)?, values(step.bias)?);
        let terms: Vec<[f32; 2]> = decay.into_iter().zip(bias).map(Into::into).collect();
        let terms = self.gpu.constant("terms of heads", cast_slice(&terms))?;
        let [qkv, alpha, beta, out] =
            [step.qkv, step.alpha, step.beta, step.out].map(|slot| self.slot(slot));
        let operands = [qkv, alpha, beta, &terms, states, out];
        let n_groups = step.n_value_heads * step.value_width.div_ceil(columns);
        Ok(vec![self.per_sequence(&DELTA_NET, &constants, &operands, n_groups)])
    }

    pub(super) fn selective_scan(&mut self, step: &SelectiveScan) -> Result<Vec<Dispatch>> {
        let n_columns = step.n_heads * step.head_width;
        let states = &self.memory.states[step.state];
        let columns = columns(step.state_width, THREADS)?;
        let n_decays = self.weights[step.decay.0].width;
        let constants = vec![
            ("n_heads", count(step.n_heads)),
            ("head_width", count(step.head_width)),
            ("state_width", count(step.state_width)),
            ("n_groups", count(step.n_groups)),
            ("n_decays", count(n_decays)),
            ("x_width", count(self.width(step.x))),
            ("dt_width", count(self.width(step.dt))),
            ("b_width", count(self.width(step.b))),
            ("c_width", count(self.width(step.c))),
            ("out_width", count(self.width(step.out))),
            ("columns", count(columns)),
        ];
        let values = |weight, n| self.vector_values(weight, n, "SelectiveScan");
        let bias = values(step.bias, step.n_heads)?;
        let skip = values(step.skip, step.n_heads)?;
        let mut terms: Vec<f32> = bias.into_iter().zip(skip).flat_map(<[f32; 2]>::from).collect();
        terms.extend(values(step.decay, n_decays * step.n_heads)?);
        let terms = self.gpu.constant("terms of heads", cast_slice(&terms))?;
        let [x, dt, b, c, out] =
            [step.x, step.dt, step.b, step.c, step.out].map(|slot| self.slot(slot));
        let operands = [x, dt, b, c, &terms, states, out];
        let n_groups = n_columns.div_ceil(columns);
        Ok(vec![self.per_sequence(&SELECTIVE_SCAN, &constants, &operands, n_groups)])
    }
}
