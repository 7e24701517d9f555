//! Steps that work on each row by itself.

use super::operands::Checker;
use crate::error::Result;
use crate::operands::WeightRef;
use crate::program::Rows;
use crate::step::{Add, GatedAct, Mix, Norm, Sparsify, TakeRows};

impl Checker<'_> {
    pub(super) fn norm(&mut self, step: &Norm) -> Result<()> {
        self.have_equal_rows(&[("input", step.input), ("result", step.out)])?;
        self.have_width(&[("result", step.out)], self.width(step.input))?;
        let all = self.product("groups of the norm", [step.groups, step.width])?;
        self.reads("input", step.input, all)?;
        // Of one group or of all.
        let factors = |operand: &str, weight: Option<WeightRef>| match weight {
            Some(weight) if self.vector(operand, weight, step.width).is_ok() => Ok(()),
            weight => self.optional_vector(operand, weight, all),
        };
        factors("factors", step.weight)?;
        factors("terms", step.bias)?;
        self.is_positive("epsilon", step.epsilon)?;
        self.writes("result", step.out, self.held(step.input))
    }

    pub(super) fn gated_act(&mut self, step: &GatedAct) -> Result<()> {
        let GatedAct { gate, up, up_offset, out, activation } = *step;
        self.have_equal_rows(&[("result", out), ("argument", gate)])?;
        let width = self.width(out);
        let mut n = width;
        if !(self.width(gate) == 1 && up.is_some()) {
            if self.width(gate) < width {
                let found = format!("rows of {} values", self.width(gate));
                return Err(self.refuse("argument", found, format!("at least {width}")));
            }
            n = n.min(self.held(gate));
        }
        self.reads("argument", gate, 1)?;
        if let Some(up) = up {
            self.have_equal_rows(&[("result", out), ("factor", up)])?;
            self.is_none_of("result", out, &[up])?;
            let needed = self.sum("columns of the factor", [up_offset, width])?;
            if self.width(up) < needed {
                let found = format!("rows of {} values", self.width(up));
                return Err(self.refuse("factor", found, format!("at least {needed}")));
            }
            n = n.min(self.held(up).saturating_sub(up_offset));
        }
        self.activation(activation)?;
        self.writes("result", out, n)
    }

    pub(super) fn add(&mut self, step: &Add) -> Result<()> {
        let slots = [("first term", step.a), ("second term", step.b), ("result", step.out)];
        self.have_equal_rows(&slots)?;
        self.have_width(&slots, self.width(step.a))?;
        self.is_none_of("result", step.out, &[step.b])?;
        self.is_finite("factor on the first term", step.a_scale)?;
        self.is_finite("factor on the second term", step.scale)?;
        self.writes("result", step.out, self.held(step.a).min(self.held(step.b)))
    }

    pub(super) fn take_rows(&mut self, step: &TakeRows) -> Result<()> {
        self.is_of("input", step.input, Rows::Batch)?;
        self.is_of("result", step.out, Rows::Outputs)?;
        self.have_width(&[("result", step.out)], self.width(step.input))?;
        self.writes("result", step.out, self.held(step.input))
    }

    pub(super) fn mix(&mut self, step: &Mix) -> Result<()> {
        self.product("inputs and outputs", [step.inputs.len(), step.outputs.len()])?;
        let inputs = step.inputs.iter().map(|slot| ("input", *slot));
        let outputs = step.outputs.iter().map(|slot| ("result", *slot));
        let slots: Vec<_> = inputs.chain(outputs).collect();
        self.have_equal_rows(&[&[("factors", step.weights)], &slots[..]].concat())?;
        self.have_width(&slots, self.width(step.inputs[0]))?;
        self.are_distinct("results", &step.outputs)?;
        self.is_none_of("factors", step.weights, &step.outputs)?;
        self.is_none_of("factors", step.weights, &step.inputs)?;
        let n_factors = self.product("factors", [step.outputs.len(), step.inputs.len()])?;
        self.have_width(&[("factors", step.weights)], n_factors)?;
        self.reads("factors", step.weights, n_factors)?;
        let added_to = if step.accumulate { &step.outputs[..] } else { &[] };
        let read = step.inputs.iter().chain(added_to);
        let n = read.map(|slot| self.held(*slot)).min().unwrap_or(0);
        step.outputs.iter().try_for_each(|out| self.writes("result", *out, n))
    }

    pub(super) fn sparsify(&mut self, step: &Sparsify) -> Result<()> {
        self.have_equal_rows(&[("values", step.values)])?;
        if step.width < 2 {
            return Err(self.refuse("width", step.width, "2 or more: one value has no deviation"));
        }
        self.is_finite("deviations", step.deviations)?;
        self.reads("values", step.values, step.width)
    }
}
