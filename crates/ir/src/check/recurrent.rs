//! Steps that carry a state from row to row.

use super::operands::Checker;
use crate::error::Result;
use crate::recurrent::{Conv, DeltaNet, SelectiveScan};

impl Checker<'_> {
    pub(super) fn conv(&mut self, step: &Conv) -> Result<()> {
        self.are_of_batch(&[("input", step.input), ("result", step.out)])?;
        self.is_none_of("result", step.out, &[step.input])?;
        let weight = self.weight("taps", step.weight)?;
        let (taps, width) = (weight.row_len(), weight.n_rows());
        self.product("taps", [taps, width])?;
        self.optional_vector("terms", step.bias, width)?;
        self.activation(step.activation)?;
        self.reads("input", step.input, width)?;
        self.writes("result", step.out, width)?;
        self.keeps(step.state, (taps - 1) * width)
    }

    pub(super) fn delta_net(&mut self, step: &DeltaNet) -> Result<()> {
        let DeltaNet { qkv, alpha, beta, out, n_key_heads, n_value_heads, .. } = *step;
        let slots = [("queries, keys and values", qkv), ("alpha", alpha), ("beta", beta)];
        self.are_of_batch(&[&slots[..], &[("result", out)]].concat())?;
        self.is_none_of("result", out, &[qkv, alpha, beta])?;
        self.divides("value heads", n_value_heads, n_key_heads)?;
        let keys = self.product("queries and keys", [2, n_key_heads, step.key_width])?;
        let values = self.product("values", [n_value_heads, step.value_width])?;
        let all = self.sum("queries, keys and values", [keys, values])?;
        self.reads("queries, keys and values", qkv, all)?;
        self.reads("alpha", alpha, n_value_heads)?;
        self.reads("beta", beta, n_value_heads)?;
        self.vector("factors of the decay", step.decay, n_value_heads)?;
        self.vector("terms of alpha", step.bias, n_value_heads)?;
        self.is_positive("epsilon", step.epsilon)?;
        self.writes("result", out, values)?;
        let state = self.product("values of the state", [values, step.key_width])?;
        self.keeps(step.state, state)
    }

    pub(super) fn selective_scan(&mut self, step: &SelectiveScan) -> Result<()> {
        let SelectiveScan { x, dt, b, c, out, n_heads, n_groups, state_width, .. } = *step;
        let slots = [("x", x), ("time steps", dt), ("b", b), ("c", c), ("result", out)];
        self.are_of_batch(&slots)?;
        self.is_none_of("result", out, &[x, dt, b, c])?;
        self.divides("heads", n_heads, n_groups)?;
        let values = self.product("values of all heads", [n_heads, step.head_width])?;
        let written = self.product("values of all groups", [n_groups, state_width])?;
        self.reads("x", x, values)?;
        self.reads("time steps", dt, n_heads)?;
        self.reads("b", b, written)?;
        self.reads("c", c, written)?;
        // One decay for each value of the state, or one for all.
        if self.matrix("decay", step.decay, 1, n_heads).is_err() {
            self.matrix("decay", step.decay, state_width, n_heads)?;
        }
        self.vector("terms of the time steps", step.bias, n_heads)?;
        self.vector("skip", step.skip, n_heads)?;
        self.writes("result", out, values)?;
        let state = self.product("values of the state", [values, state_width])?;
        self.keeps(step.state, state)
    }
}
