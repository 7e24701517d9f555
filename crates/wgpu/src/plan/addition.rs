//! What adapters add: `scale * b (a x)`, as two products that only their rows take part in.

use std::ops::RangeInclusive;

use realm_ir::{Result, Rows, WeightRef};

use super::linear::{EXPERT_WORKS, Experts, Product};
use super::{Dispatch, Grid, Planner, RowsGrid, count, expect, flag};
use crate::additions::RowList;
use crate::kernel::ADAPT_CHOICES;
use crate::low_rank::{LowRankAdapter, Pair};
use crate::product::embed::Source;
use crate::product::{Places, Work};

/// Experts of adapters have few rows each and little to do: one by one, however many.
const ONE_BY_ONE: [(RangeInclusive<usize>, Places, Work); 1] =
    [(1..=usize::MAX, Places::Choices, Work::Vector(1))];

/// Where adapters add to what a dispatch and those before it have made with a weight.
pub(crate) struct Site {
    weight: WeightRef,
    operand: Operand,
    out: wgpu::Buffer,
    out_stride: usize,
    pub rows: Rows,
    /// Factor on what is added.
    scale: f32,
}

/// What the weight was used with.
enum Operand {
    /// The token's row of the table.
    Token,
    /// Rows of so many values.
    Input(wgpu::Buffer, usize),
    /// The same for matrices of experts.
    Choices(wgpu::Buffer, usize, Chosen),
}

/// [`Experts`] with buffers of its own.
struct Chosen {
    n_experts: usize,
    n_used: usize,
    first_row: usize,
    n_columns: usize,
    of_rows: bool,
    weigh_input: bool,
    choices: wgpu::Buffer,
    weights: wgpu::Buffer,
}

impl Site {
    /// Behind the rows of a table.
    pub(super) fn of_lookup(
        table: WeightRef,
        (out, out_stride): (&wgpu::Buffer, usize),
        rows: Rows,
        scale: f32,
    ) -> Self {
        Site { weight: table, operand: Operand::Token, out: out.clone(), out_stride, rows, scale }
    }

    /// Behind a product, with experts' matrices if there are `experts`; `None` for a matrix that
    /// no adapter has anything for.
    pub(super) fn of_product(product: &Product<'_>, experts: Option<&Experts<'_>>) -> Option<Self> {
        let (input, in_stride) = (product.input.clone(), product.in_stride);
        let operand = match experts {
            None => Operand::Input(input, in_stride),
            Some(experts) => {
                let Experts { n_experts, n_used, first_row, n_columns, of_rows, .. } = *experts;
                let (choices, weights) = (experts.choices.clone(), experts.weights.clone());
                let weigh_input = experts.weigh_input;
                let chosen = Chosen {
                    n_experts,
                    n_used,
                    first_row,
                    n_columns,
                    of_rows,
                    weigh_input,
                    choices,
                    weights,
                };
                Operand::Choices(input, in_stride, chosen)
            }
        };
        Some(Site {
            weight: product.target?,
            operand,
            out: product.out.clone(),
            out_stride: product.out_stride,
            rows: product.rows,
            scale: product.scale,
        })
    }
}

impl Planner<'_> {
    /// The dispatches that add what `adapter` has for a site, to these rows.
    ///
    /// # Errors
    /// `ShapeMismatch` when the adapter was made for another program, `OutOfMemory`.
    pub fn add_low_rank(
        &mut self,
        site: &Site,
        adapter: &LowRankAdapter,
        rows: &RowList,
    ) -> Result<Vec<Dispatch>> {
        let pair = match site.operand {
            Operand::Token => adapter.lookup(site.weight),
            _ => adapter.product(site.weight),
        };
        let Some(pair) = pair else { return Ok(Vec::new()) };
        let (weight, rank) = (&self.weights[site.weight.0], pair.b.width);
        let (width, n_rows) = (weight.width, weight.n_rows);
        let (n_experts, n_used) = match &site.operand {
            Operand::Choices(.., chosen) => (chosen.n_experts, chosen.n_used),
            _ => (1, 1),
        };
        let (a_shape, n_columns) = match site.operand {
            Operand::Token => ([rank, n_rows], width),
            _ => ([width, rank * n_experts], n_rows),
        };
        expect(&pair.a.name, pair.a.width, a_shape[0])?;
        expect(&pair.a.name, pair.a.n_rows, a_shape[1])?;
        expect(&pair.b.name, pair.b.n_rows, n_columns)?;
        let n_items = n_used * super::max_rows(site.rows, self.config);
        let inner = self.scratch("values of an adapter", &[n_items, rank])?;
        let whole = Experts {
            n_experts,
            n_used,
            first_row: 0,
            n_columns,
            of_rows: true,
            weigh_input: true,
            scale: None,
            choices: &rows.choices,
            weights: &rows.factors,
            tiles: &rows.tiles,
        };
        let mut dispatches;
        match &site.operand {
            Operand::Token => {
                dispatches =
                    self.look_up(&pair.a, (&inner, rank), site.rows, Source::Token, 1.0)?;
                dispatches.extend(self.outer(site, pair, &inner, &whole, &EXPERT_WORKS)?);
            }
            Operand::Input(input, in_stride) => {
                let input = (input, *in_stride);
                dispatches = self.inner(site, pair, input, &inner, &whole, &EXPERT_WORKS)?;
                dispatches.extend(self.outer(site, pair, &inner, &whole, &EXPERT_WORKS)?);
            }
            Operand::Choices(input, in_stride, chosen) => {
                let choices = self.scratch("experts with an adapter", &[n_items])?;
                let weights = self.scratch("scales of experts with an adapter", &[n_items])?;
                let constants =
                    vec![("n_used", count(n_used)), ("weigh", flag(chosen.weigh_input))];
                let operands = [
                    &rows.choices,
                    &rows.factors,
                    &chosen.choices,
                    &chosen.weights,
                    &choices,
                    &weights,
                ];
                let grid = Grid::PerRow(RowsGrid::new(1, site.rows));
                dispatches = vec![self.with_grid(&ADAPT_CHOICES, &constants, &operands, grid)];
                let Chosen { first_row, n_columns, of_rows, .. } = *chosen;
                let (choices, weights) = (&choices, &weights);
                let part = Experts { first_row, n_columns, of_rows, choices, weights, ..whole };
                let input = (input, *in_stride);
                dispatches.extend(self.inner(site, pair, input, &inner, &part, &ONE_BY_ONE)?);
                dispatches.extend(self.outer(site, pair, &inner, &part, &ONE_BY_ONE)?);
            }
        }
        Ok(dispatches)
    }

    /// `inner = a x`
    fn inner(
        &mut self,
        site: &Site,
        pair: &Pair,
        (input, in_stride): (&wgpu::Buffer, usize),
        inner: &wgpu::Buffer,
        experts: &Experts<'_>,
        works: &[(RangeInclusive<usize>, Places, Work)],
    ) -> Result<Vec<Dispatch>> {
        let rank = pair.b.width;
        let product = Product {
            weight: &pair.a,
            target: None,
            bias: None,
            input,
            in_stride,
            out: inner,
            out_stride: rank,
            rows: site.rows,
            scale: 1.0,
            accumulate: false,
            step: "Linear",
            exact: true,
        };
        let experts = Experts { first_row: 0, n_columns: rank, weigh_input: false, ..*experts };
        self.expert_products(&product, &experts, works, &mut None)
    }

    /// `out += scale * b inner`
    fn outer(
        &mut self,
        site: &Site,
        pair: &Pair,
        inner: &wgpu::Buffer,
        experts: &Experts<'_>,
        works: &[(RangeInclusive<usize>, Places, Work)],
    ) -> Result<Vec<Dispatch>> {
        let product = Product {
            weight: &pair.b,
            target: None,
            bias: None,
            input: inner,
            in_stride: pair.b.width,
            out: &site.out,
            out_stride: site.out_stride,
            rows: site.rows,
            scale: site.scale * pair.scale,
            accumulate: true,
            step: "Linear",
            exact: true,
        };
        let experts = Experts { of_rows: false, ..*experts };
        self.expert_products(&product, &experts, works, &mut None)
    }
}
