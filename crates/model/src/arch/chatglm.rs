//! ChatGLM 2 and 3, GLM-4 of 2024: queries, keys and values in one matrix with biases,
//! gate and up in another, half-rotated heads (arXiv 2406.12793).

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "chatglm", window: Window::Never, experts: None, ..llama::RECIPE };
