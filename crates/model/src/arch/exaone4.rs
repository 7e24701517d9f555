//! EXAONE 4: norms after attention and feed-forward instead of before, norms of heads;
//! in the large size a window in three layers of four, and only those rotate
//! (arXiv 2507.11407).

use super::exaone;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "exaone4",
    pre_norms: false,
    post_norms: true,
    qk_norm: QkNorm::Heads,
    window: Window::If(Layers::AllButLastOf(4)),
    rope_layers: RopeLayers::WithWindow,
    ..exaone::RECIPE
};
