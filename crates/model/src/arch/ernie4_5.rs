//! ERNIE 4.5, dense: Llama's block.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "ernie4_5", window: Window::Never, experts: None, ..llama::RECIPE };
