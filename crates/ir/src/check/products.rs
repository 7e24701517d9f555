//! Rows of tables, and products with matrices.

use super::operands::Checker;
use crate::error::Result;
use crate::operands::WeightRef;
use crate::program::Rows;
use crate::step::{Embed, ExpertWeights, HeadLinear, Linear, LinearOutput, Moe};

impl Checker<'_> {
    pub(super) fn embed(&mut self, step: &Embed) -> Result<()> {
        self.is_of("result", step.out, Rows::Batch)?;
        let table = self.weight("table", step.table)?;
        // Token ids are checked against one number.
        let n_vocab = self.program.n_vocab().unwrap_or(0);
        let width = table.row_len();
        self.matrix("table", step.table, width, n_vocab.max(1))?;
        if let Some(positions) = step.positions {
            let n_positions = self.weight("positions", positions)?.n_rows().max(1);
            self.matrix("positions", positions, width, n_positions)?;
        }
        self.optional_vector("constant", step.constant, width)?;
        self.is_finite("factor", step.scale)?;
        self.writes("result", step.out, width)
    }

    pub(super) fn linear(&mut self, step: &Linear) -> Result<()> {
        self.have_equal_rows(&[("input", step.input)])?;
        let Some(first) = step.outputs.first() else {
            return Err(self.refuse("products", "none", "1 or more"));
        };
        let width = self.weight("matrix", first.weight)?.row_len();
        self.reads("input", step.input, width)?;
        let outs: Vec<_> = step.outputs.iter().map(|output| output.out).collect();
        self.are_distinct("results", &outs)?;
        for LinearOutput { weight, bias, out, scale, accumulate } in &step.outputs {
            self.have_equal_rows(&[("input", step.input), ("result", *out)])?;
            self.is_none_of("result", *out, &[step.input])?;
            let n = self.weight("matrix", *weight)?.n_rows();
            self.matrix("matrix", *weight, width, n)?;
            self.optional_vector("terms", *bias, n)?;
            self.is_finite("factor", *scale)?;
            match accumulate {
                true => self.reads("result", *out, n)?,
                false => self.writes("result", *out, n)?,
            }
        }
        Ok(())
    }

    pub(super) fn head_linear(&mut self, step: &HeadLinear) -> Result<()> {
        let HeadLinear { input, out, weight, n_heads, in_width, out_width, rest } = *step;
        self.have_equal_rows(&[("input", input), ("result", out)])?;
        self.is_none_of("result", out, &[input])?;
        let n_rows = self.product("columns of all heads", [n_heads, out_width])?;
        self.product("values of a head", [in_width])?;
        self.matrix("matrices", weight, in_width, n_rows)?;
        let in_head = self.sum("values of a head", [in_width, rest])?;
        let out_head = self.sum("columns of a head", [out_width, rest])?;
        self.reads("input", input, self.product("values of all heads", [n_heads, in_head])?)?;
        let n = self.product("columns of all heads", [n_heads, out_head])?;
        self.writes("result", out, n)
    }

    pub(super) fn moe(&mut self, step: &Moe) -> Result<()> {
        let (input, router_input, out) = (step.input, step.router_input, step.out);
        let slots = [("input", input), ("input of the router", router_input), ("result", out)];
        self.have_equal_rows(&slots)?;
        self.is_none_of("result", out, &[input, router_input])?;
        self.choice_of_experts(step)?;
        let width = self.weight("router", step.router)?.row_len();
        self.matrix("router", step.router, width, step.n_experts)?;
        self.optional_vector("terms of the router", step.router_bias, step.n_experts)?;
        self.optional_vector("terms of the choice", step.choice_bias, step.n_experts)?;
        self.expert_weights(&step.experts, width, step.n_experts)?;
        self.activation(step.activation)?;
        self.is_finite("factor on the weights", step.scale)?;
        self.reads("input", input, width)?;
        self.reads("input of the router", router_input, width)?;
        match step.accumulate {
            true => self.reads("result", out, width),
            false => self.writes("result", out, width),
        }
    }

    /// That there are as many experts to choose from as are used.
    fn choice_of_experts(&self, step: &Moe) -> Result<()> {
        self.divides("experts", step.n_experts, step.n_groups)?;
        self.is_within("groups of experts that can be chosen", step.n_groups_used, step.n_groups)?;
        let n_eligible = step.n_experts / step.n_groups * step.n_groups_used;
        self.is_within("experts of a row", step.n_used, n_eligible)
    }

    fn expert_weights(&self, experts: &ExpertWeights, width: usize, n: usize) -> Result<()> {
        let inner = self.weight("down matrices", experts.down)?.row_len();
        let n_columns = self.product("columns of all experts", [width, n])?;
        let n_inner = self.product("inner columns of all experts", [inner, n])?;
        self.matrix("down matrices", experts.down, inner, n_columns)?;
        match experts.gate {
            Some(gate) if gate == experts.up => {
                let both = self.product("columns of gate and up", [n_inner, 2])?;
                self.matrix("gate and up matrices", gate, width, both)?;
            }
            gate => {
                if let Some(gate) = gate {
                    self.matrix("gate matrices", gate, width, n_inner)?;
                }
                self.matrix("up matrices", experts.up, width, n_inner)?;
            }
        }
        let rows = |operand: &str, weight: Option<WeightRef>, row_len: usize| {
            weight.map_or(Ok(()), |weight| self.matrix(operand, weight, row_len, n))
        };
        rows("terms of the gate", experts.gate_bias, inner)?;
        rows("terms of the up matrix", experts.up_bias, inner)?;
        rows("terms of the down matrix", experts.down_bias, width)?;
        self.optional_vector("factors on the gate", experts.gate_scale, n)?;
        self.optional_vector("factors on the up matrix", experts.up_scale, n)?;
        self.optional_vector("factors on the down matrix", experts.down_scale, n)
    }
}
