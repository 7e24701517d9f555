//! Ministral 3: Llama's block, stretched by YaRN without its factor. Beyond the original
//! context queries are scaled by their position, which is refused.

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "mistral3", window: Window::Never, yarn_log_multiplier: true, ..llama::RECIPE };
