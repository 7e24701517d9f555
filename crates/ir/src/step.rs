//! The closed set of operations a backend has to know.
//!
//! A step is as coarse as it can be while every architecture is still a list of
//! them: what one backend fuses into a single kernel (norm and quantisation,
//! several projections of one input) and another runs as two is the backend's
//! business. A new kind of mixer becomes a new step, never a wider trait.

use std::sync::Arc;

use crate::operands::{Activation, Slot, WeightRef};
use crate::recurrent::{Conv, DeltaNet, SelectiveScan};

/// One operation. `rows` below is the number of rows of the slots involved.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each variant is documented on the struct it holds")]
pub enum Step {
    Embed(Embed),
    Norm(Norm),
    Linear(Linear),
    RopeStore(RopeStore),
    Rope(Rope),
    Attend(Attend),
    GatedAct(GatedAct),
    Add(Add),
    TakeRows(TakeRows),
    Moe(Box<Moe>),
    HeadLinear(HeadLinear),
    Mix(Mix),
    Sparsify(Sparsify),
    Conv(Conv),
    DeltaNet(DeltaNet),
    SelectiveScan(SelectiveScan),
}

impl Step {
    /// The step's name without its operands, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Embed(_) => "Embed",
            Step::Norm(_) => "Norm",
            Step::Linear(_) => "Linear",
            Step::RopeStore(_) => "RopeStore",
            Step::Rope(_) => "Rope",
            Step::Attend(_) => "Attend",
            Step::GatedAct(_) => "GatedAct",
            Step::Add(_) => "Add",
            Step::TakeRows(_) => "TakeRows",
            Step::Moe(_) => "Moe",
            Step::HeadLinear(_) => "HeadLinear",
            Step::Mix(_) => "Mix",
            Step::Sparsify(_) => "Sparsify",
            Step::Conv(_) => "Conv",
            Step::DeltaNet(_) => "DeltaNet",
            Step::SelectiveScan(_) => "SelectiveScan",
        }
    }
}

/// `out[row] = scale * table[tokens[row]] + positions[position of row] + constant`
#[derive(Clone, Debug)]
pub struct Embed {
    /// Embedding table `[width, n_vocab]`, any storage type.
    pub table: WeightRef,
    /// Where the rows go, `[rows, width]`.
    pub out: Slot,
    /// Factor on every value, 1 for most families.
    pub scale: f32,
    /// Learned positions `[width, n_positions]`; rows beyond the last take the last.
    pub positions: Option<WeightRef>,
    /// Added to every row `[width]` (the token type of BERT).
    pub constant: Option<WeightRef>,
}

/// Which mean a normalisation subtracts and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)` (arXiv 1910.07467).
    Rms,
    /// `(x - mean(x)) / sqrt(var(x) + eps)` (arXiv 1607.06450).
    Layer,
}

/// `out = norm(input) * weight + bias`, row by row.
///
/// The first `groups * width` values of a row are normalised in groups of
/// `width` (a whole row, or each head alone); values after them are copied.
#[derive(Clone, Debug)]
pub struct Norm {
    /// Values to normalise, `[rows, width]`.
    pub input: Slot,
    /// Result; may be `input`.
    pub out: Slot,
    /// The kind of mean.
    pub kind: NormKind,
    /// Groups in a row, 1 for the whole row.
    pub groups: usize,
    /// Values in a group.
    pub width: usize,
    /// Factors `[width]` for every group or `[groups * width]`, or none.
    pub weight: Option<WeightRef>,
    /// Terms, in the same two shapes, or none.
    pub bias: Option<WeightRef>,
    /// Added under the root; positive and finite.
    pub epsilon: f32,
}

/// One or several matrix products of one input.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Left operand, `[rows, weight.shape[0]]`.
    pub input: Slot,
    /// The products; their slots are distinct from each other and from `input`.
    pub outputs: Vec<LinearOutput>,
}

/// `out = scale * (input x weight^T + bias)`, or that added to what `out` holds.
#[derive(Clone, Debug)]
pub struct LinearOutput {
    /// Matrix `[in_width, out_width]` in GGUF order: `out_width` rows of `in_width`.
    pub weight: WeightRef,
    /// Term per output column `[out_width]`, or none.
    pub bias: Option<WeightRef>,
    /// Result `[rows, out_width]`.
    pub out: Slot,
    /// Factor on the product and its bias.
    pub scale: f32,
    /// Add to `out` instead of replacing it: a residual connection.
    pub accumulate: bool,
}

/// RMS norm of each head, before its rotation (Qwen 3, Gemma 3) or after it (Hunyuan).
#[derive(Clone, Debug)]
pub struct HeadNorm {
    /// Factors for one query head `[head_width]`.
    pub q_weight: WeightRef,
    /// Factors for one key head `[head_width]`.
    pub k_weight: WeightRef,
    /// Added under the root; positive and finite.
    pub epsilon: f32,
    /// The rotation comes first.
    pub after_rope: bool,
}

/// Which two values of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(x[2i], x[2i + 1])`: llama files, whose Q and K rows are permuted for it.
    Interleaved,
    /// `(x[i], x[i + n_dims / 2])`: the style of GPT-NeoX.
    Halves,
}

/// Rotary position embedding (arXiv 2104.09864) with any frequency scaling
/// already worked in: linear, Llama 3, YaRN and LongRoPE differ only in
/// `inverse_frequencies` and `magnitude`.
#[derive(Clone, Debug)]
pub struct RopeSpec {
    /// Which values pair up.
    pub style: RopeStyle,
    /// Radians per position for each pair, `[n_dims / 2]`; `n_dims <= head_width`,
    /// the rest of the head is left as it is.
    pub inverse_frequencies: Arc<[f32]>,
    /// Factor on sine and cosine.
    pub magnitude: f32,
    /// First value of a head that turns, 0 for most families.
    pub offset: usize,
}

impl RopeSpec {
    /// Values of a head that turn.
    pub fn n_dims(&self) -> usize {
        self.inverse_frequencies.len() * 2
    }
}

/// Normalises and rotates the heads of `q` and `k`, then writes `k` and `v` to
/// the KV cache at each row's position.
#[derive(Clone, Debug)]
pub struct RopeStore {
    /// Queries `[rows, n_heads * key_width]`, rotated in place.
    pub q: Slot,
    /// Keys `[rows, n_kv_heads * key_width]`; unspecified afterwards.
    pub k: Slot,
    /// Values `[rows, n_kv_heads * value_width]`; may be `k` with a single head,
    /// whose first `value_width` values are then stored before they turn.
    pub v: Slot,
    /// Index into [`crate::KvLayout::layers`], which gives head counts and widths.
    pub kv_layer: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Norm of each head before its rotation.
    pub head_norm: Option<HeadNorm>,
    /// The rotation; none leaves heads as they are.
    pub rope: Option<RopeSpec>,
    /// A factor on queries that grows with their position.
    pub temperature: Option<Temperature>,
}

/// `1 + scale * ln(1 + floor((position + offset) / length))`, a factor on queries that
/// keeps attention sharp over long contexts (Llama 4, Ministral 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// How fast it grows.
    pub scale: f32,
    /// Positions over which it stays the same; at least 1.
    pub length: u32,
    /// Added to the position.
    pub offset: u32,
}

impl Temperature {
    /// The factor at a position.
    pub fn at(&self, position: u32) -> f32 {
        let steps = (u64::from(position) + u64::from(self.offset)) / u64::from(self.length);
        1.0 + self.scale * (steps as f32).ln_1p()
    }
}

/// Rotates heads in place: the queries of a layer that reads the keys and values of
/// another and so has no [`RopeStore`] of its own.
#[derive(Clone, Debug)]
pub struct Rope {
    /// `[rows, n_heads * head_width]`
    pub heads: Slot,
    /// Number of heads.
    pub n_heads: usize,
    /// Values per head.
    pub head_width: usize,
    /// The rotation.
    pub rope: RopeSpec,
}

/// `out = softmax(mask(scale * q k^T)) v` per head over the row's own sequence.
///
/// A row at position `p` sees positions `<= p` (all positions of its sequence
/// when not `causal`), and with a `window` only those `> p - window`; when not
/// `causal`, those up to `window / 2` away on either side. With a `chunked` window it
/// sees those from the last multiple of it on. Query head `h` reads KV head
/// `h / (n_heads / n_kv_heads)`.
#[derive(Clone, Debug)]
pub struct Attend {
    /// Rotated queries `[rows, n_heads * key_width]`.
    pub q: Slot,
    /// Result `[rows, n_heads * value_width]`.
    pub out: Slot,
    /// Index into [`crate::KvLayout::layers`]; several layers may read one.
    pub kv_layer: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Window in positions, or the whole sequence.
    pub window: Option<u32>,
    /// The window does not slide: it begins at multiples of its size (Llama 4).
    pub chunked: bool,
    /// Scores become `cap * tanh(score / cap)` before the mask (Gemma 2).
    pub softcap: Option<f32>,
    /// One more score per head `[n_heads]` that takes weight but has no value (gpt-oss).
    pub sinks: Option<WeightRef>,
    /// Largest slope of linear biases on the distance (ALiBi, arXiv 2108.12409).
    pub alibi_max_bias: Option<f32>,
    /// False for encoders.
    pub causal: bool,
}

/// `out = act(gate) * up`, or `act(gate)` without `up`. A gate of one column
/// serves every column of `up`.
#[derive(Clone, Debug)]
pub struct GatedAct {
    /// Argument of the activation, `[rows, width]` or, with `up`, `[rows, 1]`.
    pub gate: Slot,
    /// Factor, `[rows, up_offset + width]` or wider.
    pub up: Option<Slot>,
    /// First column of `up` that is read; 0 for most families.
    pub up_offset: usize,
    /// Result; may be `gate`.
    pub out: Slot,
    /// The function.
    pub activation: Activation,
}

/// `out = a_scale * a + scale * b`
#[derive(Clone, Debug)]
pub struct Add {
    /// First term `[rows, width]`.
    pub a: Slot,
    /// Second term `[rows, width]`.
    pub b: Slot,
    /// Result; may be `a`.
    pub out: Slot,
    /// Factor on `a`, 1 for a residual connection.
    pub a_scale: f32,
    /// Factor on `b`.
    pub scale: f32,
}

/// `out[i] = input[output_rows[i]]`: the rows somebody wants logits for.
#[derive(Clone, Debug)]
pub struct TakeRows {
    /// `[batch rows, width]`
    pub input: Slot,
    /// `[output rows, width]`, a slot of [`crate::Rows::Outputs`].
    pub out: Slot,
}

/// How router logits become the weights of the chosen experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts, then the largest are chosen.
    Softmax,
    /// The largest are chosen, then softmax over them.
    SoftmaxOfChosen,
    /// Sigmoid of each.
    Sigmoid,
}

/// Three matrices of one feed-forward part, for each expert one after another.
///
/// Products are multiplied by the expert's factor before its term is added.
#[derive(Clone, Debug)]
pub struct ExpertWeights {
    /// `[width, inner, n]`, or none for experts without a gate. May be `up`: then
    /// `[width, 2 * inner, n]`, of each expert the gate's rows, then those of `up`.
    pub gate: Option<WeightRef>,
    /// `[width, inner, n]`
    pub up: WeightRef,
    /// `[inner, width, n]`
    pub down: WeightRef,
    /// Terms `[inner, n]` of the gate.
    pub gate_bias: Option<WeightRef>,
    /// Terms `[inner, n]` of the up matrix.
    pub up_bias: Option<WeightRef>,
    /// Terms `[width, n]` of the down matrix.
    pub down_bias: Option<WeightRef>,
    /// Factors `[n]` on the gate's product.
    pub gate_scale: Option<WeightRef>,
    /// Factors `[n]` on the up matrix's product.
    pub up_scale: Option<WeightRef>,
    /// Factors `[n]` on the down matrix's product.
    pub down_scale: Option<WeightRef>,
}

/// A mixture of experts (arXiv 1701.06538, 2401.04088): the router's best
/// `n_used` of `n_experts` feed-forward parts, weighted and summed.
///
/// An expert is `down(act(gate(x)) * up(x))`, or `down(act(up(x)))` without a gate.
#[derive(Clone, Debug)]
pub struct Moe {
    /// What the experts read, `[rows, width]`.
    pub input: Slot,
    /// What the router reads, `[rows, width]`; `input` in most families.
    pub router_input: Slot,
    /// Result `[rows, width]`, neither of the inputs.
    pub out: Slot,
    /// Add to `out` instead of replacing it.
    pub accumulate: bool,
    /// `[width, n_experts]`; its products decide, computed in f32.
    pub router: WeightRef,
    /// Terms `[n_experts]` of the router's products.
    pub router_bias: Option<WeightRef>,
    /// Terms `[n_experts]` that count for the choice but not for the weights (DeepSeek V3).
    pub choice_bias: Option<WeightRef>,
    /// From logits to weights.
    pub gating: Gating,
    /// Divide the chosen weights by their sum.
    pub normalize: bool,
    /// Factor on the weights.
    pub scale: f32,
    /// Experts there are.
    pub n_experts: usize,
    /// Experts used per row, at most `n_experts`.
    pub n_used: usize,
    /// Equal groups of experts, of which the best `n_groups_used` by the sum of their
    /// two largest scores can be chosen from; 1 for no grouping.
    pub n_groups: usize,
    /// Groups that can be chosen from.
    pub n_groups_used: usize,
    /// The experts.
    pub experts: ExpertWeights,
    /// The function.
    pub activation: Activation,
    /// Apply the weight to the expert's input instead of its output (Llama 4).
    pub weigh_input: bool,
}

/// A matrix of its own for each head: multi-head latent attention (arXiv 2405.04434).
///
/// Of each head's `in_width + rest` values, the first become `out_width` others and
/// the rest follow unchanged.
#[derive(Clone, Debug)]
pub struct HeadLinear {
    /// `[rows, n_heads * (in_width + rest)]`
    pub input: Slot,
    /// `[rows, n_heads * (out_width + rest)]`, not `input`.
    pub out: Slot,
    /// `[in_width, out_width, n_heads]`
    pub weight: WeightRef,
    /// Number of heads.
    pub n_heads: usize,
    /// Values of a head that are multiplied.
    pub in_width: usize,
    /// Values they become.
    pub out_width: usize,
    /// Values of a head that are only copied.
    pub rest: usize,
}

/// Sums of slots with factors of each row's own:
/// `outputs[i][row] = sum over j of weights[row][i * inputs + j] * inputs[j][row]`, or
/// that added to what the outputs hold.
///
/// A slot may be both input and output: all inputs of a row are read before any output
/// is written.
#[derive(Clone, Debug)]
pub struct Mix {
    /// What is summed, `[rows, width]` each.
    pub inputs: Vec<Slot>,
    /// Results, `[rows, width]` each, distinct from each other.
    pub outputs: Vec<Slot>,
    /// Factors `[rows, outputs * inputs]`, those of the first output first; neither an
    /// input nor an output.
    pub weights: Slot,
    /// Add to the outputs instead of replacing them.
    pub accumulate: bool,
}

/// Keeps of a row what exceeds most of it: `x = max(x - mean - deviations * deviation, 0)`
/// over the mean and the standard deviation (that of a sample, over `width - 1`) of the
/// row's first `width` values. Of values that are normally distributed, `deviations` says
/// which part stays (Gemma 3n).
#[derive(Clone, Debug)]
pub struct Sparsify {
    /// Values to change in place, `[rows, width]`.
    pub values: Slot,
    /// Values of a row, at least 2.
    pub width: usize,
    /// Standard deviations above the mean from which a value stays; finite.
    pub deviations: f32,
}
