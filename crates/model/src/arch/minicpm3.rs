//! MiniCPM 3: keys and values from a shared latent. Its factors (`scale_emb` 12,
//! `scale_depth` 1.4, `dim_model_base` 256) are not in the file.

use realm_ir::RopeStyle;

use super::llama;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "minicpm3",
    embed_scale: EmbedScale::Always(12.0),
    residual_scale: ResidualScale::OverSqrtLayers(1.4),
    latent: true,
    window: Window::Never,
    rope_style: RopeStyle::Halves,
    experts: None,
    logit_scale: LogitScale::OverWidth(256.0),
    ..llama::RECIPE
};
