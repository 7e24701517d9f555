//! Steps that work on each row by itself.

use realm_ir::{Activation, Add, GatedAct, Norm, NormKind, Result, StepKind, TakeRows};

use super::{Dispatch, Planner, count, expect, flag, refuse};
use crate::kernel::{ADD, GATED_ACT, NORM, TAKE_ROWS, THREADS};

impl Planner<'_> {
    pub(super) fn norm(&mut self, step: &Norm) -> Result<Vec<Dispatch>> {
        let width = self.width(step.input);
        if step.groups != 1 || step.width != width {
            return Err(refuse("a norm of parts of a row".to_owned()));
        }
        expect("result of a norm", self.width(step.out), width)?;
        let constants = vec![
            ("width", count(width)),
            ("epsilon", step.epsilon.into()),
            ("layer_norm", flag(step.kind == NormKind::Layer)),
            ("has_weight", flag(step.weight.is_some())),
            ("has_bias", flag(step.bias.is_some())),
            ("in_place", flag(step.input == step.out)),
        ];
        let weight = self.vector(step.weight, width, StepKind::Norm)?;
        let bias = self.vector(step.bias, width, StepKind::Norm)?;
        let input = self.input(step.input, step.out);
        let out = &self.slots[step.out.0];
        Ok(vec![self.rowwise(&NORM, &constants, &[&input, &weight, &bias, out], 1, step.out)])
    }

    pub(super) fn gated_act(&mut self, step: &GatedAct) -> Result<Vec<Dispatch>> {
        let width = self.width(step.gate);
        expect("result of an activation", self.width(step.out), width)?;
        if let Some(up) = step.up {
            if step.up_offset > 0 || self.width(up) > width {
                return Err(refuse("an activation with part of a factor".to_owned()));
            }
            expect("factor of an activation", self.width(up), width)?;
        }
        let (activation, cap) = match step.activation {
            Activation::Silu => (0, 0.0),
            Activation::GeluTanh => (1, 0.0),
            Activation::GeluErf => (2, 0.0),
            Activation::Softcap(cap) => (3, cap),
            other => return Err(refuse(format!("the activation {other:?}"))),
        };
        let constants = vec![
            ("width", count(width)),
            ("has_up", flag(step.up.is_some())),
            ("in_place", flag(step.gate == step.out)),
            ("activation", activation.into()),
            ("cap", cap.into()),
        ];
        let gate = self.input(step.gate, step.out);
        let up = match step.up {
            Some(up) if up == step.out => {
                return Err(refuse("an activation that overwrites its factor".to_owned()));
            }
            Some(up) => self.slots[up.0].clone(),
            None => self.gpu.nothing.clone(),
        };
        let operands = [&gate, &up, &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&GATED_ACT, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    pub(super) fn add(&mut self, step: &Add) -> Result<Vec<Dispatch>> {
        let width = self.width(step.a);
        expect("second term of a sum", self.width(step.b), width)?;
        expect("result of a sum", self.width(step.out), width)?;
        if step.a_scale != 1.0 {
            return Err(refuse("a sum with a factor on its first term".to_owned()));
        }
        if step.b == step.out {
            return Err(refuse("a sum that overwrites its second term".to_owned()));
        }
        let constants = vec![
            ("width", count(width)),
            ("scale", step.scale.into()),
            ("in_place", flag(step.a == step.out)),
        ];
        let a = self.input(step.a, step.out);
        let operands = [&a, &self.slots[step.b.0], &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&ADD, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    pub(super) fn take_rows(&mut self, step: &TakeRows) -> Result<Vec<Dispatch>> {
        let width = self.width(step.input);
        expect("rows taken", self.width(step.out), width)?;
        let constants = vec![("width", count(width))];
        let operands = [&self.slots[step.input.0], &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&TAKE_ROWS, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }
}
