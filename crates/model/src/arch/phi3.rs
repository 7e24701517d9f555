//! Phi 3 and 3.5, dense: Llama's block with queries, keys and values in one
//! matrix, gate and up in another, and LongRoPE in the long-context files
//! (arXiv 2404.14219, 2402.13753).

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "phi3", rope_style: RopeStyle::Halves, experts: None, ..llama::RECIPE };
