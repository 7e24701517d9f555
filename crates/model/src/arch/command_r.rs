//! Command R: attention and feed-forward side by side behind one layer norm without
//! bias; norms per head in the large size.

use realm_ir::NormKind;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "command-r",
    norm: NormKind::Layer,
    block: Block::Parallel,
    qk_norm: QkNorm::EachHeadIfPresent,
    window: Window::Never,
    experts: None,
    logit_scale: LogitScale::Multiply,
    ..llama::RECIPE
};
