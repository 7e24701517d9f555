//! The router of a mixture of experts.

use realm_ir::{Gating, Moe, Result, StepKind};

use super::{Dispatch, Planner, at_least, count, flag, refuse};
use crate::kernel::ROUTE;
use crate::plan::linear::HeadProduct;

/// Which experts each row uses, best first.
pub(super) struct Routes {
    /// `[rows, n_used]`, u32.
    pub experts: wgpu::Buffer,
    /// Factors, `[rows, n_used]`, F32.
    pub weights: wgpu::Buffer,
}

/// Experts whose scores fit into workgroup memory.
const MAX_EXPERTS: usize = 1024;

impl Planner<'_> {
    pub(super) fn moe(&mut self, step: &Moe) -> Result<Vec<Dispatch>> {
        let (_dispatches, _routes) = self.route(step)?;
        Err(refuse("a mixture of experts".to_owned()))
    }

    /// Multiplies with the router and chooses.
    pub(super) fn route(&mut self, step: &Moe) -> Result<(Vec<Dispatch>, Routes)> {
        let (n, n_used) = (step.n_experts, step.n_used);
        at_least("experts", n, n_used)?;
        if n > MAX_EXPERTS {
            return Err(refuse(format!("a mixture of {n} experts (at most {MAX_EXPERTS})")));
        }
        let n_rows = self.max_rows(step.router_input);
        let logits = self.scratch("router logits", n_rows * n)?;
        let router = HeadProduct {
            input: self.slot(step.router_input),
            input_width: self.width(step.router_input),
            out: &logits,
            out_width: n,
            rows: self.rows(step.router_input),
            weight: step.router,
            n_heads: 1,
            in_width: self.weights[step.router.0].width,
            n_columns: n,
            rest: 0,
        };
        let mut dispatches = self.head_product(&router)?;
        let routes = Routes {
            experts: self.scratch("chosen experts", n_rows * n_used)?,
            weights: self.scratch("weights of experts", n_rows * n_used)?,
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
        let router_bias = self.vector(step.router_bias, n, StepKind::Moe)?;
        let choice_bias = self.vector(step.choice_bias, n, StepKind::Moe)?;
        let operands = [&logits, &router_bias, &choice_bias, &routes.experts, &routes.weights];
        dispatches.push(self.rowwise(&ROUTE, &constants, &operands, 1, step.router_input));
        Ok((dispatches, routes))
    }
}
