//! Mistral 4: the latent attention of DeepSeek, experts chosen by softmax.

use super::deepseek2;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "mistral4", ..deepseek2::RECIPE };
