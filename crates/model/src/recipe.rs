//! The vocabulary of recipes: what can differ between two decoder families.
//!
//! What a file shows by having a tensor needs no word here: biases, fused
//! matrices (`attn_qkv`, a double `ffn_up`), an output matrix of its own, and
//! frequency factors are used where the file has them.
//!
//! What only one family does, and no word says plainly, is a function in that family's file:
//! `adjust` where its sizes differ, `own_layer` and `own_feed_forward` where a piece is put
//! together in another way.

use realm_gguf::Gguf;
use realm_ir::{Activation, Gating, NormKind, RopeStyle, Slot, Temperature};

use crate::build::LayerBuilder;
use crate::error::Result;
use crate::hyperparameters::LayerHyperparameters;

/// Makes a family's recipe that of the file at hand.
pub(crate) type Adjust = fn(&Gguf, &mut Recipe) -> Result<()>;

/// Appends the steps of the layer with this index, which changes the hidden state.
pub(crate) type OwnLayer = fn(&mut LayerBuilder<'_>, usize, &LayerHyperparameters) -> Result<()>;

/// Appends the steps of a layer's feed-forward part, which reads the slot and adds its result
/// to the hidden state.
pub(crate) type OwnFeedForward =
    fn(&mut LayerBuilder<'_>, usize, &LayerHyperparameters, Slot) -> Result<()>;

/// What an architecture is made of. Numbers come from the file.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// `general.architecture`, also the prefix of the metadata keys.
    pub name: &'static str,
    /// What sizes of the family differ in without saying so, and what its files must have:
    /// the function looks at the file and changes the other fields, or refuses. A recipe that is
    /// made from this one has it too, and writes `None` where it settles these fields itself.
    pub(crate) adjust: Option<Adjust>,
    /// Every position sees every other, and there is no output matrix.
    pub is_encoder: bool,
    /// Factor on the embedding.
    pub embed_scale: EmbedScale,
    /// Factor on what a block adds to the hidden state.
    pub residual_scale: ResidualScale,
    /// How a token knows where it is.
    pub positions: Positions,
    /// The kind of the norms, which decides the key of their epsilon.
    pub norm: NormKind,
    /// Norms have neither factors nor terms.
    pub bare_norms: bool,
    /// Streams beside the hidden state, a low-rank part beside attention, and sparse gates
    /// (`altup`, `laurel`, `activation_sparsity_scale`).
    pub altup: bool,
    /// How attention and feed-forward follow each other.
    pub block: Block,
    /// Builds a layer in place of `block` and all it reads.
    pub(crate) own_layer: Option<OwnLayer>,
    /// Norms before attention and feed-forward.
    pub pre_norms: bool,
    /// Norms after them, before the residual (`post_attention_norm`, `post_ffw_norm`).
    pub post_norms: bool,
    /// Name of the norm before the feed-forward part.
    pub ffn_norm: &'static str,
    /// Queries, keys and values must have biases.
    pub qkv_bias: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// RMS norm of each value head, without factors; a layer without a matrix for values
    /// takes the keys as they are before their own norm.
    pub value_norm: bool,
    /// Norms before the output matrices of attention and feed-forward
    /// (`attn_sub_norm`, `ffn_sub_norm`).
    pub sub_norms: bool,
    /// A score per head without a value (`attn_sinks`).
    pub sinks: Sinks,
    /// Attention's result is multiplied by a sigmoid of its input (`attn_gate`).
    pub attention_gate: AttentionGate,
    /// Keys and values from a shared latent (`attn_kv_a_mqa`, `attn_k_b`, `attn_v_b`).
    pub latent: bool,
    /// Factor on attention scores when `attention.scale` is not given.
    pub attention_scale: AttentionScale,
    /// Queries grow with their position.
    pub query_temperature: QueryTemperature,
    /// What stands in for attention in some layers.
    pub recurrent: Recurrent,
    /// Which layers see only a window of positions.
    pub window: Window,
    /// The window begins at multiples of its size instead of sliding.
    pub chunked_window: bool,
    /// Which values of a head rotate together.
    pub rope_style: RopeStyle,
    /// Layers that rotate.
    pub rope_layers: RopeLayers,
    /// Base of the rotation's frequencies.
    pub rope_base: RopeBase,
    /// With `rope.scaling.yarn_log_multiplier` in the file, YaRN leaves the size of queries
    /// and keys as it is; without, it multiplies sine and cosine.
    pub yarn_log_multiplier: bool,
    /// How the layers with a window rotate.
    pub window_rope: WindowRope,
    /// The feed-forward part.
    pub feed_forward: FeedForward,
    /// Builds a layer's feed-forward part in place of the common one.
    pub(crate) own_feed_forward: Option<OwnFeedForward>,
    /// `feed_forward_length` counts gate and up together.
    pub half_feed_forward: bool,
    /// What routing does in the layers with experts; none for families without.
    pub experts: Option<Experts>,
    /// A chosen expert's input is weighed, not its result.
    pub experts_weigh_input: bool,
    /// What `logit_scale` means.
    pub logit_scale: LogitScale,
    /// Cap on logits of files without `final_logit_softcapping`.
    pub logit_softcap: Option<f32>,
    /// Name of the norm before the head.
    pub output_norm: &'static str,
}

/// A gate on attention's result, its sigmoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionGate {
    /// None.
    None,
    /// A product of the layer's input (`attn_gate`).
    Matrix,
    /// The query matrix gives it too: each head's rows are its query's, then its gate's.
    Queries,
}

/// What stands in for attention in some layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurrent {
    /// Nothing: every layer attends.
    None,
    /// A gated short convolution where a layer has no key/value heads.
    ShortConv,
    /// A gated delta rule in the layers that `attention.recurrent_layers` names,
    /// or all but the last of each `full_attention_interval`.
    DeltaNet {
        /// The value heads of a key head are neighbours.
        grouped: bool,
    },
    /// The selective scan of Mamba where a layer has no key/value heads.
    Mamba,
    /// That of Mamba 2 where a layer has no key/value heads.
    Mamba2,
    /// That of Mamba 2 beside attention in every layer.
    Mamba2BesideAttention,
    /// A single matrix where a layer has no key/value heads, nothing where it has no
    /// query heads.
    Matrix,
}

/// Scores that take weight but have no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sinks {
    /// None.
    None,
    /// One per head in every layer.
    Required,
    /// In the layers that have them.
    IfPresent,
}

/// A factor on queries that grows with their position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QueryTemperature {
    /// Where the file has `attention.temperature_scale`, growing once per original context.
    Key,
    /// This one, in the layers that do not rotate.
    Unrotated(Temperature),
}

/// Factor on the embedding.
#[derive(Clone, Copy, Debug)]
pub enum EmbedScale {
    /// As stored, or times `embedding_scale` where the file has it.
    Key,
    /// Times the square root of the embedding length.
    SqrtWidth,
    /// Times this.
    Always(f32),
}

/// Factor on what a block adds to the hidden state.
#[derive(Clone, Copy, Debug)]
pub enum ResidualScale {
    /// `residual_scale`, where the file has it.
    Key,
    /// This over the square root of the number of layers.
    OverSqrtLayers(f32),
}

/// How a token knows where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Rotated queries and keys.
    Rope,
    /// A learned vector added to the embedding (`position_embd`).
    Learned,
    /// Linear biases on scores (`attention.max_alibi_bias`).
    Alibi,
    /// By the order of tokens alone, in what they see and in recurrent layers.
    None,
}

/// How attention and feed-forward follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Feed-forward reads what attention has changed.
    Sequential,
    /// Both read the same state; without a norm of its own, the feed-forward
    /// part reads attention's.
    Parallel,
    /// A layer is a feed-forward part where it has a length of one, else attention or
    /// what stands in for it; `attn_norm` is before either.
    OnePart,
}

/// Norms of queries and keys before they turn (`attn_q_norm`, `attn_k_norm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// RMS norm of each head, the same factors for all.
    Heads,
    /// The same in the sizes of the family that have it.
    HeadsIfPresent,
    /// RMS norm of each head behind its rotation.
    HeadsAfterRope,
    /// RMS norm of each head that turns, without factors.
    BareHeads,
    /// One norm over all heads.
    Row,
    /// The same, where the file has it.
    RowIfPresent,
    /// Layer norm of each head with factors of its own, where the file has them.
    EachHeadIfPresent,
}

/// Factor on attention scores.
#[derive(Clone, Copy, Debug)]
pub enum AttentionScale {
    /// `1 / sqrt(key length)`
    KeyWidth,
    /// `1 / sqrt(embedding length / heads)`
    EmbeddingShare,
    /// `1 / key length`
    InverseKeyWidth,
    /// This.
    Always(f32),
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
    /// The layers that the file's pattern names; it must give both.
    ByKey,
    /// The layers named and this window, where the file gives none; 0 there means none.
    Default(u32, Layers),
}

/// A set of layers.
#[derive(Clone, Copy, Debug)]
pub enum Layers {
    /// Every layer.
    All,
    /// All but the last of each group of this many.
    AllButLastOf(usize),
    /// All but the first of each group of this many.
    AllButFirstOf(usize),
}

impl Layers {
    /// Whether `layer` is in the set.
    pub fn contains(self, layer: usize) -> bool {
        match self {
            Layers::All => true,
            Layers::AllButLastOf(group) => layer % group != group - 1,
            Layers::AllButFirstOf(group) => !layer.is_multiple_of(group),
        }
    }
}

/// Layers that rotate queries and keys.
#[derive(Clone, Copy, Debug)]
pub enum RopeLayers {
    /// These.
    Of(Layers),
    /// Those with a window; all, where none has one.
    WithWindow,
}

/// How the layers with a window rotate.
#[derive(Clone, Copy, Debug)]
pub enum WindowRope {
    /// Like the others.
    Same,
    /// As the model was before its rotation was scaled.
    Unscaled,
    /// Unscaled, with `rope.freq_base_swa`, or this where the key is absent.
    OwnBase(f32),
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

/// The feed-forward part.
#[derive(Clone, Copy, Debug)]
pub enum FeedForward {
    /// `down(act(gate(x)) * up(x))`
    Gated(Activation),
    /// `down(act(up(x)))`
    Plain(Activation),
    /// The same with xIELU, whose numbers the file gives (`xielu.alpha_p` and others).
    PlainXielu,
}

/// How a family routes rows to experts, where the file does not say otherwise
/// (`expert_gating_func`, `expert_weights_norm`, `expert_weights_scale`).
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// From logits to weights.
    pub gating: Gating,
    /// Divide the chosen weights by their sum.
    pub normalize: bool,
}

/// What `logit_scale` means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogitScale {
    /// Nothing: the family has none.
    None,
    /// Logits are multiplied by it; the file must have it.
    Multiply,
    /// Logits are divided by it; the file must have it.
    Divide,
    /// Not in the file: logits are multiplied by this over the embedding length.
    OverWidth(f32),
}
