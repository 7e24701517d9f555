//! OLMo 1: layer norms without factors or terms (arXiv 2402.00838).
//!
//! The sizes that hold queries, keys and values to a range are refused.

use realm_ir::NormKind;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "olmo",
    norm: NormKind::Layer,
    bare_norms: true,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
