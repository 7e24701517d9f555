//! A mixture of experts: the router, products with the chosen experts' matrices, their sum.

use realm_ir::{Gating, Moe, Result, WeightRef};

use super::linear::{EXPERT_WORKS, Experts, FEWEST_TILED, Product};
use super::{Dispatch, Grid, MAX_GRID, Planner, RowsGrid, count, flag, refuse};
use crate::activation;
use crate::kernel::{GATED_ACT, GROUP_CHOICES, ROUTE, SUM_CHOICES, THREADS};
use crate::product::source::{TILE_ROWS, TILE_WORDS, TILES_AT};

/// Which experts each row uses, best first.
pub(super) struct Routes {
    /// `[rows, n_used]`, u32.
    pub experts: wgpu::Buffer,
    /// Factors, `[rows, n_used]`, F32.
    pub weights: wgpu::Buffer,
}

/// Experts whose scores fit into workgroup memory.
const MAX_EXPERTS: usize = 1024;

/// What the dispatches of a mixture hand to each other.
const LOGITS: &str = "router logits";
const CHOSEN: &str = "chosen experts";
const WEIGHTS: &str = "weights of experts";
const TILES: &str = "choices by expert";
const GATES: &str = "gates of experts";
const FACTORS: &str = "factors of experts";
const RESULTS: &str = "results of experts";

/// Words of the list of choices by expert.
fn tile_words(step: &Moe, n_choices: usize) -> usize {
    let n_tiles = n_choices / TILE_ROWS + step.n_experts;
    TILES_AT + TILE_WORDS * n_tiles + n_choices
}

/// Experts that batches of `n_rows` choose.
///
/// # Errors
/// `Unsupported` for more experts, or more of them chosen, than there are kernels for.
pub(crate) fn n_choices(step: &Moe, n_rows: usize) -> Result<usize> {
    let (n, n_used) = (step.n_experts, step.n_used);
    if n > MAX_EXPERTS {
        return Err(refuse(format!("a mixture of {n} experts (at most {MAX_EXPERTS})")));
    }
    let n_choices = n_rows.saturating_mul(n_used);
    if n_choices > MAX_GRID {
        return Err(refuse(format!("a batch of {n_rows} rows with {n_used} experts each")));
    }
    Ok(n_choices)
}

/// Each of these and its dimensions, for batches of `n_rows` and experts that turn rows of
/// `width` into `inner` values.
pub(crate) fn scratch(
    step: &Moe,
    n_rows: usize,
    (width, inner): (usize, usize),
) -> [(&'static str, [usize; 2]); 7] {
    let n_choices = n_rows * step.n_used;
    [
        (LOGITS, [n_rows, step.n_experts]),
        (CHOSEN, [n_choices, 1]),
        (WEIGHTS, [n_choices, 1]),
        (TILES, [tile_words(step, n_choices), 1]),
        (GATES, [n_choices, inner]),
        (FACTORS, [n_choices, inner]),
        (RESULTS, [n_choices, width]),
    ]
}

impl Planner<'_> {
    pub(super) fn moe(&mut self, step: &Moe) -> Result<Vec<Dispatch>> {
        let rows = self.rows(step.input);
        let n_rows = self.max_rows(step.input);
        let n_choices = n_choices(step, n_rows)?;
        let experts = &step.experts;
        let [up, down] = [experts.up, experts.down].map(|weight| &self.weights[weight.0]);
        let (width, inner) = (up.width, down.width);
        let (mut dispatches, routes) = self.route(step)?;
        let tiles = self.scratch(TILES, &[tile_words(step, n_choices)])?;
        let constants = vec![("n_experts", count(step.n_experts)), ("n_used", count(step.n_used))];
        let grouping = RowsGrid {
            // One workgroup for all rows.
            group_items: usize::MAX,
            when: FEWEST_TILED..=usize::MAX,
            ..RowsGrid::new(1, rows)
        };
        let operands = [&routes.experts, &tiles];
        let grouping = Grid::PerRow(grouping);
        dispatches.push(self.with_grid(&GROUP_CHOICES, &constants, &operands, grouping));

        let gated = self.scratch(GATES, &[n_choices, inner])?;
        let factors = self.scratch(FACTORS, &[n_choices, inner])?;
        let results = self.scratch(RESULTS, &[n_choices, width])?;
        let base = Experts {
            n_experts: step.n_experts,
            n_used: step.n_used,
            first_row: 0,
            n_columns: inner,
            of_rows: true,
            weigh_input: step.weigh_input,
            scale: None,
            choices: &routes.experts,
            weights: &routes.weights,
            tiles: &tiles,
        };
        let weights = self.weights;
        let product = |weight: WeightRef, bias, input, in_stride, out, out_stride| Product {
            weight: &weights[weight.0],
            target: Some(weight),
            bias,
            input,
            in_stride,
            out,
            out_stride,
            rows,
            scale: 1.0,
            accumulate: false,
            step: "Moe",
            exact: false,
        };
        let (input, in_stride) = (self.slot(step.input), self.width(step.input));
        let mut rounded = None;
        if let Some(gate) = experts.gate {
            let product = product(gate, experts.gate_bias, input, in_stride, &gated, inner);
            let experts = Experts { scale: experts.gate_scale, ..base };
            dispatches.extend(self.expert_products(
                &product,
                &experts,
                &EXPERT_WORKS,
                &mut rounded,
            )?);
        }
        // Gate and up may share a weight, in which an expert's gate comes first.
        let first_row = if experts.gate == Some(experts.up) { inner } else { 0 };
        let up_out = if experts.gate.is_some() { &factors } else { &gated };
        let up = product(experts.up, experts.up_bias, input, in_stride, up_out, inner);
        let up_experts = Experts { scale: experts.up_scale, first_row, ..base };
        dispatches.extend(self.expert_products(&up, &up_experts, &EXPERT_WORKS, &mut rounded)?);

        let has_gate = experts.gate.is_some();
        dispatches.push(self.activate_choices(step, inner, &gated, has_gate.then_some(&factors)));
        let down = product(experts.down, experts.down_bias, &gated, inner, &results, width);
        let down_experts = Experts {
            scale: experts.down_scale,
            n_columns: width,
            of_rows: false,
            weigh_input: false,
            ..base
        };
        dispatches.extend(self.expert_products(&down, &down_experts, &EXPERT_WORKS, &mut None)?);

        let constants = vec![
            ("width", count(width)),
            ("out_width", count(self.width(step.out))),
            ("n_used", count(step.n_used)),
            ("weigh_input", flag(step.weigh_input)),
            ("accumulate", flag(step.accumulate)),
        ];
        let operands = [&results, &routes.weights, self.slot(step.out)];
        let n_groups = width.div_ceil(THREADS);
        dispatches.push(self.rowwise(&SUM_CHOICES, &constants, &operands, n_groups, step.out));
        Ok(dispatches)
    }

    /// The activation of every choice, in place.
    fn activate_choices(
        &mut self,
        step: &Moe,
        inner: usize,
        gated: &wgpu::Buffer,
        factors: Option<&wgpu::Buffer>,
    ) -> Dispatch {
        let mut constants = activation::constants(step.activation);
        constants.extend([
            ("width", count(inner)),
            ("gate_width", count(inner)),
            ("up_width", count(inner)),
            ("up_offset", 0.0),
            ("has_up", flag(factors.is_some())),
            ("gate_in_place", 1.0),
        ]);
        let nothing = self.gpu.nothing.clone();
        let operands = [&nothing, factors.unwrap_or(&nothing), gated];
        let grid = RowsGrid {
            row_items: step.n_used,
            ..RowsGrid::new(inner.div_ceil(THREADS), self.rows(step.input))
        };
        self.with_grid(&GATED_ACT, &constants, &operands, Grid::PerRow(grid))
    }

    /// Multiplies with the router and chooses.
    pub(super) fn route(&mut self, step: &Moe) -> Result<(Vec<Dispatch>, Routes)> {
        let (n, n_used) = (step.n_experts, step.n_used);
        let n_rows = self.max_rows(step.router_input);
        let logits = self.scratch(LOGITS, &[n_rows, n])?;
        let router = Product {
            weight: &self.weights[step.router.0],
            target: Some(step.router),
            bias: None,
            input: self.slot(step.router_input),
            in_stride: self.width(step.router_input),
            out: &logits,
            out_stride: n,
            rows: self.rows(step.router_input),
            scale: 1.0,
            accumulate: false,
            step: "Moe",
            exact: true,
        };
        let mut dispatches = self.products(&[router], &mut None)?;
        let routes = Routes {
            experts: self.scratch(CHOSEN, &[n_rows, n_used])?,
            weights: self.scratch(WEIGHTS, &[n_rows, n_used])?,
        };
        let constants = vec![
            ("n_experts", count(n)),
            ("n_used", count(n_used)),
            ("n_groups", count(step.n_groups)),
            ("n_groups_used", count(step.n_groups_used)),
            (
                "gating",
                match step.gating {
                    Gating::Softmax => 0.0,
                    Gating::SoftmaxOfChosen => 1.0,
                    Gating::Sigmoid => 2.0,
                },
            ),
            ("normalize", flag(step.normalize)),
            ("scale", step.scale.into()),
            ("has_router_bias", flag(step.router_bias.is_some())),
            ("has_choice_bias", flag(step.choice_bias.is_some())),
        ];
        let router_bias = self.vector(step.router_bias, n, "Moe")?;
        let choice_bias = self.vector(step.choice_bias, n, "Moe")?;
        let operands = [&logits, &router_bias, &choice_bias, &routes.experts, &routes.weights];
        dispatches.push(self.rowwise(&ROUTE, &constants, &operands, 1, step.router_input));
        Ok((dispatches, routes))
    }
}
