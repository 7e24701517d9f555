//! Numbers of mixtures of experts.

use realm_ir::Gating;

use super::{Keys, MAX_COUNT};
use crate::error::{Error, Result};
use crate::recipe::{Experts, Recipe};

/// Numbers of a mixture of experts.
#[derive(Clone, Copy, Debug)]
pub struct ExpertHyperparameters {
    /// Experts there are.
    pub n_experts: usize,
    /// Experts a row uses.
    pub n_used: usize,
    /// Width of one expert.
    pub feed_forward_length: usize,
    /// Width of the shared expert; 0 for none.
    pub shared_feed_forward_length: usize,
    /// From logits to weights.
    pub gating: Gating,
    /// Divide the chosen weights by their sum.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// Groups of experts.
    pub n_groups: usize,
    /// Groups that can be chosen from.
    pub n_groups_used: usize,
}

/// Most experts taken seriously.
const MAX_EXPERTS: usize = 1 << 16;

/// Numbers of the experts, for files that have some.
pub(super) fn experts(
    keys: &Keys<'_>,
    recipe: &Recipe,
    feed_forward_length: usize,
) -> Result<Option<ExpertHyperparameters>> {
    let key = keys.key("expert_count");
    let n_experts = match keys.metadata.u32(&key)? {
        None | Some(0) => return Ok(None),
        Some(n) => n as usize,
    };
    let Some(Experts { gating, normalize }) = recipe.experts else {
        return Err(Error::unsupported(key, n_experts, "dense models of this family"));
    };
    // The router has a row for each, so the count is also checked against a tensor.
    if n_experts > MAX_EXPERTS {
        return Err(Error::invalid(key, n_experts, format!("1 to {MAX_EXPERTS}")));
    }
    let part = |name: &str, whole: usize, default: Option<usize>| {
        let value = keys.count(name, default)?;
        if value <= whole {
            return Ok(value);
        }
        Err(Error::invalid(keys.key(name), value, format!("1 to {whole}")))
    };
    let n_used = part("expert_used_count", n_experts, None)?;
    let n_groups = part("expert_group_count", n_experts, Some(1))?;
    if !n_experts.is_multiple_of(n_groups) {
        let expected = format!("a divisor of {n_experts}, the number of experts");
        return Err(Error::invalid(keys.key("expert_group_count"), n_groups, expected));
    }
    let n_groups_used = part("expert_group_used_count", n_groups, Some(n_groups))?;
    if n_used > n_experts / n_groups * n_groups_used {
        let expected = format!("at most the experts of {n_groups_used} of {n_groups} groups");
        return Err(Error::invalid(keys.key("expert_used_count"), n_used, expected));
    }
    let inner = keys.count("expert_feed_forward_length", Some(feed_forward_length))?;
    let shared_count = keys.metadata.u32(&keys.key("expert_shared_count"))?.unwrap_or(0);
    let shared_key = keys.key("expert_shared_feed_forward_length");
    let shared = match keys.metadata.u32(&shared_key)? {
        Some(width) => width as usize,
        None => inner.saturating_mul(shared_count as usize),
    };
    if shared > MAX_COUNT as usize {
        return Err(Error::invalid(shared_key, shared, format!("at most {MAX_COUNT}")));
    }
    let gating_key = keys.key("expert_gating_func");
    let gating = match keys.metadata.u32(&gating_key)? {
        None | Some(0) => gating,
        Some(1) => Gating::Softmax,
        Some(2) => Gating::Sigmoid,
        Some(3) => Gating::SoftmaxOfChosen,
        Some(other) => {
            let supported = "1 (softmax), 2 (sigmoid), 3 (softmax of the chosen)";
            return Err(Error::unsupported(gating_key, other, supported));
        }
    };
    Ok(Some(ExpertHyperparameters {
        n_experts,
        n_used,
        feed_forward_length: inner,
        shared_feed_forward_length: shared,
        gating,
        normalize: keys.metadata.bool(&keys.key("expert_weights_norm"))?.unwrap_or(normalize),
        scale: keys.cap("expert_weights_scale")?.unwrap_or(1.0),
        n_groups,
        n_groups_used,
    }))
}
