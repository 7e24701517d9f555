//! Mamba: selective scans alone (arXiv 2312.00752); Falcon Mamba normalises what they read
//! (arXiv 2410.05355).

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "mamba",
    positions: Positions::None,
    recurrent: Recurrent::Mamba,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
