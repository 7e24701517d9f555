//! Steps that work on each row by itself.

use realm_ir::{
    Add, GatedAct, Mix, Norm, NormKind, Program, Result, SessionConfig, Sparsify, TakeRows,
    WeightRef,
};

use super::{Dispatch, Planner, count, flag};
use crate::activation;
use crate::kernel::{ADD, GATED_ACT, MIX, MIX_OUT, NORM, NORM_WIDE, SPARSIFY, TAKE_ROWS, THREADS};

/// Inputs that one dispatch of a mix takes.
const MIX_INPUTS: usize = 4;

/// Values from which on a norm is worth more threads.
const LONG: usize = 512;

/// What the dispatches of a mix hand to each other.
pub(crate) const SUMS: &str = "sums of a mix";

impl Planner<'_> {
    pub(super) fn norm(&mut self, step: &Norm) -> Result<Vec<Dispatch>> {
        let row_width = self.width(step.input);
        let all = step.groups * step.width;
        let has_own = |weight: Option<WeightRef>| {
            weight.is_some_and(|weight| self.n_values(weight) != step.width)
        };
        let constants = vec![
            ("groups", count(step.groups)),
            ("width", count(step.width)),
            ("row_width", count(row_width)),
            ("epsilon", step.epsilon.into()),
            ("layer_norm", flag(step.kind == NormKind::Layer)),
            ("has_weight", flag(step.weight.is_some())),
            ("has_bias", flag(step.bias.is_some())),
            ("own_weight", flag(has_own(step.weight))),
            ("own_bias", flag(has_own(step.bias))),
            ("in_place", flag(step.input == step.out)),
        ];
        let width_of = |own: bool| if own { all } else { step.width };
        let weight = self.vector(step.weight, width_of(has_own(step.weight)), "Norm")?;
        let bias = self.vector(step.bias, width_of(has_own(step.bias)), "Norm")?;
        let input = self.input(step.input, step.out);
        let operands = [&input, &weight, &bias, self.slot(step.out)];
        let kernel = if step.width < LONG { &NORM } else { &NORM_WIDE };
        Ok(vec![self.rowwise(kernel, &constants, &operands, step.groups, step.out)])
    }

    pub(super) fn gated_act(&mut self, step: &GatedAct) -> Result<Vec<Dispatch>> {
        let (width, gate_width) = (self.width(step.out), self.width(step.gate));
        let mut constants = activation::constants(step.activation);
        constants.extend([
            ("width", count(width)),
            ("gate_width", count(gate_width)),
            ("up_width", count(step.up.map_or(0, |up| self.width(up)))),
            ("up_offset", count(step.up_offset)),
            ("has_up", flag(step.up.is_some())),
            ("gate_in_place", flag(step.gate == step.out)),
        ]);
        let gate = self.input(step.gate, step.out);
        let up = step.up.map_or(&self.gpu.nothing, |up| self.slot(up));
        let operands = [&gate, up, self.slot(step.out)];
        Ok(vec![self.rowwise(&GATED_ACT, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    pub(super) fn add(&mut self, step: &Add) -> Result<Vec<Dispatch>> {
        let width = self.width(step.a);
        let constants = vec![
            ("width", count(width)),
            ("a_scale", step.a_scale.into()),
            ("scale", step.scale.into()),
            ("a_in_place", flag(step.a == step.out)),
        ];
        let a = self.input(step.a, step.out);
        let operands = [&a, self.slot(step.b), self.slot(step.out)];
        Ok(vec![self.rowwise(&ADD, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    pub(super) fn take_rows(&mut self, step: &TakeRows) -> Result<Vec<Dispatch>> {
        let width = self.width(step.input);
        let constants = vec![("width", count(width))];
        let operands = [self.slot(step.input), self.slot(step.out)];
        Ok(vec![self.rowwise(&TAKE_ROWS, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    pub(super) fn sparsify(&mut self, step: &Sparsify) -> Result<Vec<Dispatch>> {
        let row_width = self.width(step.values);
        let constants = vec![
            ("width", count(step.width)),
            ("row_width", count(row_width)),
            ("deviations", step.deviations.into()),
        ];
        let operands = [self.slot(step.values)];
        Ok(vec![self.rowwise(&SPARSIFY, &constants, &operands, 1, step.values)])
    }

    pub(super) fn mix(&mut self, step: &Mix) -> Result<Vec<Dispatch>> {
        let (n_inputs, n_outputs) = (step.inputs.len(), step.outputs.len());
        let width = step.outputs.iter().map(|out| self.width(*out)).max().unwrap_or(0);
        let n_groups = width.div_ceil(THREADS);
        let sums = self.scratch(SUMS, &mix_sums(self.program, self.config, step))?;
        let mut dispatches = Vec::new();
        for (index, inputs) in step.inputs.chunks(MIX_INPUTS).enumerate() {
            let slot = |at: usize| *inputs.get(at).unwrap_or(&inputs[0]);
            let constants = vec![
                ("n_outputs", count(n_outputs)),
                ("n_all", count(n_inputs)),
                ("first", count(index * MIX_INPUTS)),
                ("n_bound", count(inputs.len())),
                ("width", count(width)),
                ("weights_width", count(self.width(step.weights))),
                ("width_0", count(self.width(slot(0)))),
                ("width_1", count(self.width(slot(1)))),
                ("width_2", count(self.width(slot(2)))),
                ("width_3", count(self.width(slot(3)))),
            ];
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| self.slot(slot(at)));
            let operands = [a, b, c, d, self.slot(step.weights), &sums];
            dispatches.push(self.rowwise(&MIX, &constants, &operands, n_groups, step.weights));
        }
        for (index, out) in step.outputs.iter().enumerate() {
            let constants = vec![
                ("n_outputs", count(n_outputs)),
                ("index", count(index)),
                ("sum_width", count(width)),
                ("width", count(self.width(*out))),
                ("accumulate", flag(step.accumulate)),
            ];
            let operands = [&sums, self.slot(*out)];
            dispatches.push(self.rowwise(&MIX_OUT, &constants, &operands, n_groups, *out));
        }
        Ok(dispatches)
    }
}

/// Dimensions of the sums of a mix.
pub(crate) fn mix_sums(program: &Program, config: &SessionConfig, step: &Mix) -> [usize; 3] {
    let width = step.outputs.iter().map(|out| program.width(*out)).max().unwrap_or(0);
    let n_rows = super::max_rows(program.slots[step.weights.0].rows, config);
    [step.outputs.len(), width, n_rows]
}
