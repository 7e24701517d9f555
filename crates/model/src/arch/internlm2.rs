//! InternLM 2 and 2.5 (arXiv 2403.17297).

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "internlm2", window: Window::Never, experts: None, ..llama::RECIPE };
