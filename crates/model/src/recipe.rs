//! The vocabulary of recipes: what can differ between two decoder families.

use realm_ir::{Activation, RopeStyle};

/// What an architecture is made of. Numbers come from the file.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// `general.architecture`, also the prefix of the metadata keys.
    pub name: &'static str,
    /// Factor on the embedding.
    pub embed_scale: EmbedScale,
    /// How queries, keys and values are stored.
    pub qkv: Qkv,
    /// RMS norm of each query and key head (`attn_q_norm`, `attn_k_norm`).
    pub head_norm: bool,
    /// Factor on attention scores when `attention.scale` is not given.
    pub attention_scale: AttentionScale,
    /// Which layers see only a window of positions.
    pub window: Window,
    /// Which values of a head rotate together.
    pub rope_style: RopeStyle,
    /// Base of the rotation's frequencies.
    pub rope_base: RopeBase,
    /// Base in the layers with a window, where it differs; those ignore scaling.
    pub rope_base_window: Option<f32>,
    /// The feed-forward part.
    pub feed_forward: FeedForward,
    /// Norms after attention and feed-forward, before the residual
    /// (`post_attention_norm`, `post_ffw_norm`).
    pub post_norms: bool,
}

/// Factor on the embedding.
#[derive(Clone, Copy, Debug)]
pub enum EmbedScale {
    /// As stored.
    One,
    /// Times the square root of the embedding length.
    SqrtWidth,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// `attn_q`, `attn_k`, `attn_v`; biases are used where the file has them.
    Separate,
    /// The same, and the biases must be there.
    SeparateWithBias,
    /// One `attn_qkv`: rows of queries, then keys, then values.
    Fused,
}

/// Factor on attention scores.
#[derive(Clone, Copy, Debug)]
pub enum AttentionScale {
    /// `1 / sqrt(key length)`
    KeyWidth,
    /// The same, but `1 / sqrt(embedding length / heads)` in the size of the
    /// family that has this many layers.
    KeyWidthUnlessLayers(usize),
}

/// Which layers see only the last `attention.sliding_window` positions.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    /// None: a window in the file is refused rather than ignored.
    Never,
    /// The layers named, when the file gives a window.
    If(Layers),
    /// The layers named; the file must give the window.
    Always(Layers),
}

/// A set of layers.
#[derive(Clone, Copy, Debug)]
pub enum Layers {
    /// Every layer.
    All,
    /// All but the last of each group of this many.
    AllButLastOf(usize),
}

impl Layers {
    /// Whether `layer` is in the set.
    pub fn contains(self, layer: usize) -> bool {
        match self {
            Layers::All => true,
            Layers::AllButLastOf(group) => layer % group != group - 1,
        }
    }
}

/// Base of the rotation's frequencies.
#[derive(Clone, Copy, Debug)]
pub enum RopeBase {
    /// `rope.freq_base` must be there.
    Required,
    /// The family's definition fixes it where the file is silent: converters
    /// leave the key out when the original configuration has none.
    FamilyDefault(f32),
}

/// The feed-forward part: `down(act(gate(x)) * up(x))`.
#[derive(Clone, Copy, Debug)]
pub enum FeedForward {
    /// `ffn_gate`, `ffn_up`, `ffn_down`.
    Gated(Activation),
    /// Gate and up in one `ffn_up`: rows of the gate first.
    GatedFused(Activation),
}
