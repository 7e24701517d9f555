//! Embedding rows and matrix products.

use std::sync::Arc;

use realm_ir::{Embed, HeadLinear, Linear, LinearOutput, Result, Rows, Slot, StepKind, WeightRef};

use super::{Dispatch, Grid, Planner, at_least, count, expect, flag, refuse};
use crate::kernel::{EMBED, HEAD_LINEAR, LINEAR, LINEAR_COLUMNS, Variant};
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
            let out = self.slot(step.out);
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
        let operands = [first, second, &bias, self.slot(input), self.slot(output.out)];
        let variants = LINEAR_ROWS.map(|n_rows| Variant {
            kernel: &LINEAR,
            format: Some(weight.format),
            n_rows,
        });
        let n_groups = part.rows.len().div_ceil(LINEAR_COLUMNS);
        Ok(self.dispatch(&variants, &constants, &operands, n_groups, output.out))
    }
}

/// A product whose operands need not be slots, with a matrix for each head.
pub(super) struct HeadProduct<'a> {
    pub input: &'a wgpu::Buffer,
    /// Values per row.
    pub input_width: usize,
    pub out: &'a wgpu::Buffer,
    /// Values per row.
    pub out_width: usize,
    pub rows: Rows,
    /// `[in_width, n_columns, n_heads]`
    pub weight: WeightRef,
    pub n_heads: usize,
    pub in_width: usize,
    pub n_columns: usize,
    /// Values of a head behind those that are multiplied, to be copied.
    pub rest: usize,
}

impl Planner<'_> {
    pub(super) fn head_linear(&mut self, step: &HeadLinear) -> Result<Vec<Dispatch>> {
        let (input_width, out_width) = (self.width(step.input), self.width(step.out));
        let in_head = step.in_width + step.rest;
        let out_head = step.out_width + step.rest;
        at_least("input of products by head", input_width, step.n_heads * in_head)?;
        at_least("result of products by head", out_width, step.n_heads * out_head)?;
        self.head_product(&HeadProduct {
            input: self.slot(step.input),
            input_width,
            out: self.slot(step.out),
            out_width,
            rows: self.rows(step.out),
            weight: step.weight,
            n_heads: step.n_heads,
            in_width: step.in_width,
            n_columns: step.out_width,
            rest: step.rest,
        })
    }

    /// The dispatches of a product, one for each part of its weight.
    pub(super) fn head_product(&mut self, product: &HeadProduct<'_>) -> Result<Vec<Dispatch>> {
        let weight = Arc::clone(&self.weights[product.weight.0]);
        expect(&weight.name, weight.width, product.in_width)?;
        expect(&weight.name, weight.n_rows, product.n_heads * product.n_columns)?;
        whole_groups(&weight, weight.width)?;
        let variants = LINEAR_ROWS.map(|n_rows| Variant {
            kernel: &HEAD_LINEAR,
            format: Some(weight.format),
            n_rows,
        });
        let n_groups = product.n_heads * product.n_columns.div_ceil(LINEAR_COLUMNS);
        let mut dispatches = Vec::new();
        for part in &weight.parts {
            let constants = vec![
                ("n_heads", count(product.n_heads)),
                ("in_width", count(product.in_width)),
                ("n_columns", count(product.n_columns)),
                ("rest", count(product.rest)),
                ("first_column", count(part.rows.start)),
                ("end_column", count(part.rows.end)),
                ("input_width", count(product.input_width)),
                ("out_width", count(product.out_width)),
                ("of_outputs", flag(product.rows == Rows::Outputs)),
            ];
            let [first, second] = &part.planes;
            let operands = [first, second, product.input, product.out];
            let grid = Grid::Rows { n_groups, rows: product.rows };
            dispatches.push(self.with_grid(&variants, &constants, &operands, grid));
        }
        Ok(dispatches)
    }
}

pub(super) fn whole_groups(weight: &Weight, width: usize) -> Result<()> {
    if width.is_multiple_of(GROUP) {
        return Ok(());
    }
    Err(refuse(format!("{}: rows of {width} values, not a multiple of {GROUP},", weight.name)))
}
