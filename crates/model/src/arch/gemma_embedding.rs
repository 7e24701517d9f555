//! EmbeddingGemma: Gemma 3 as an encoder, whose window reaches to either side
//! (arXiv 2509.20354).

use super::gemma3;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "gemma-embedding", adjust: None, is_encoder: true, ..gemma3::RECIPE };
