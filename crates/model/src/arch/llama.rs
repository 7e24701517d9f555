//! Llama 1 to 3 and everything converted as such: Mistral, Mixtral, TinyLlama, SmolLM ...
//!
//! Llama 3.1's scaling comes in the tensor `rope_freqs.weight`. Source of the
//! architecture: arXiv 2302.13971, 2407.21783; of the experts: 2401.04088.

use realm_ir::{Activation, Gating, NormKind, RopeStyle};

use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe {
    name: "llama",
    adjust: None,
    is_encoder: false,
    embed_scale: EmbedScale::Key,
    residual_scale: ResidualScale::Key,
    positions: Positions::Rope,
    norm: NormKind::Rms,
    bare_norms: false,
    altup: false,
    block: Block::Sequential,
    own_layer: None,
    pre_norms: true,
    post_norms: false,
    ffn_norm: "ffn_norm",
    qkv_bias: false,
    qk_norm: QkNorm::None,
    value_norm: false,
    sub_norms: false,
    sinks: Sinks::None,
    attention_gate: AttentionGate::None,
    latent: false,
    attention_scale: AttentionScale::KeyWidth,
    query_temperature: QueryTemperature::Key,
    recurrent: Recurrent::None,
    window: Window::If(Layers::All),
    chunked_window: false,
    rope_style: RopeStyle::Interleaved,
    rope_layers: RopeLayers::Of(Layers::All),
    rope_base: RopeBase::FamilyDefault(10_000.0),
    yarn_log_multiplier: false,
    window_rope: WindowRope::Same,
    feed_forward: FeedForward::Gated(Activation::Silu),
    own_feed_forward: None,
    half_feed_forward: false,
    experts: Some(Experts { gating: Gating::SoftmaxOfChosen, normalize: true }),
    experts_weigh_input: false,
    logit_scale: LogitScale::None,
    logit_softcap: None,
    output_norm: "output_norm",
};
