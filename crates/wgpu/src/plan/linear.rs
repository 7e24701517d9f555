//! Embedding rows and matrix products.

use std::sync::Arc;

use realm_ir::{Embed, Linear, LinearOutput, Result, Rows, Slot, StepKind};

use super::{Dispatch, Planner, count, expect, flag, refuse};
use crate::kernel::{EMBED, LINEAR, LINEAR_COLUMNS, Variant};
use crate::weight::{GROUP, Part, Weight};

/// Rows that a workgroup of a matrix product shares a weight between: of one row
/// for decoding, of several for prefill.
const LINEAR_ROWS: [usize; 2] = [1, 8];

impl Planner<'_> {
    pub(super) fn embed(&mut self, step: &Embed) -> Result<Vec<Dispatch>> {
        if step.positions.is_some() || step.constant.is_some() {
            return Err(refuse("an embedding with learned positions or types".to_owned()));
        }
        let table = Arc::clone(&self.weights[step.table.0]);
        let width = self.width(step.out);
        expect(&table.name, table.width, width)?;
        whole_groups(&table, width)?;
        let mut dispatches = Vec::new();
        for part in &table.parts {
            let constants = vec![
                ("width", count(width)),
                ("first_token", count(part.rows.start)),
                ("n_tokens", count(part.rows.len())),
                ("scale", step.scale.into()),
            ];
            let [first, second] = &part.planes;
            let out = &self.slots[step.out.0];
            let variant = Variant { kernel: &EMBED, format: Some(table.format), n_rows: 1 };
            dispatches.push(self.dispatch(
                &[variant],
                &constants,
                &[first, second, out],
                1,
                step.out,
            ));
        }
        Ok(dispatches)
    }

    pub(super) fn linear(&mut self, step: &Linear) -> Result<Vec<Dispatch>> {
        let mut dispatches = Vec::new();
        for output in &step.outputs {
            let weight = Arc::clone(&self.weights[output.weight.0]);
            expect(&weight.name, weight.width, self.width(step.input))?;
            expect(&weight.name, weight.n_rows, self.width(output.out))?;
            whole_groups(&weight, weight.width)?;
            for part in &weight.parts {
                dispatches.push(self.product(step.input, output, &weight, part)?);
            }
        }
        Ok(dispatches)
    }

    /// The columns of one output that one part of its weight makes.
    fn product(
        &mut self,
        input: Slot,
        output: &LinearOutput,
        weight: &Weight,
        part: &Part,
    ) -> Result<Dispatch> {
        let constants = vec![
            ("width", count(weight.width)),
            ("n_columns", count(part.rows.len())),
            ("first_column", count(part.rows.start)),
            ("out_width", count(weight.n_rows)),
            ("scale", output.scale.into()),
            ("has_bias", flag(output.bias.is_some())),
            ("accumulate", flag(output.accumulate)),
            ("of_outputs", flag(self.rows(output.out) == Rows::Outputs)),
        ];
        let bias = self.vector(output.bias, weight.n_rows, StepKind::Linear)?;
        let [first, second] = &part.planes;
        let operands = [first, second, &bias, &self.slots[input.0], &self.slots[output.out.0]];
        let variants = LINEAR_ROWS.map(|n_rows| Variant {
            kernel: &LINEAR,
            format: Some(weight.format),
            n_rows,
        });
        let n_groups = part.rows.len().div_ceil(LINEAR_COLUMNS);
        Ok(self.dispatch(&variants, &constants, &operands, n_groups, output.out))
    }
}

fn whole_groups(weight: &Weight, width: usize) -> Result<()> {
    if width.is_multiple_of(GROUP) {
        return Ok(());
    }
    Err(refuse(format!("{}: rows of {width} values, not a multiple of {GROUP},", weight.name)))
}
