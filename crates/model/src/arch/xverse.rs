//! XVERSE: Llama's block.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "xverse", window: Window::Never, experts: None, ..llama::RECIPE };
