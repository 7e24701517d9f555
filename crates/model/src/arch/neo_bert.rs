//! NeoBERT: Llama's blocks as an encoder, with joined matrices (arXiv 2502.19587).

use super::llama_embed;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "neo-bert", output_norm: "enc.output_norm", ..llama_embed::RECIPE };
