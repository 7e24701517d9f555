//! DeciLM and the Nemotron models made from Llama by search: layers with fewer heads, with
//! a single matrix for attention, or without attention or feed-forward part
//! (arXiv 2411.19146).

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "deci",
    recurrent: Recurrent::Matrix,
    window: Window::Never,
    experts: None,
    ..llama::RECIPE
};
