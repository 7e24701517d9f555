//! DeepSeek V2 and V3: keys and values from a shared latent, experts of which some
//! are shared (arXiv 2405.04434, 2412.19437).

use realm_ir::Gating;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "deepseek2",
    latent: true,
    yarn_log_multiplier: true,
    window: Window::Never,
    rope_base: RopeBase::Required,
    experts: Some(Experts { gating: Gating::Softmax, normalize: false }),
    ..llama::RECIPE
};
