//! Steps that carry a state from row to row.

use crate::operands::{Activation, Slot, WeightRef};

/// A short causal convolution of each column with its own past:
/// `out[row][c] = act(bias[c] + sum over j of weight[c][j] * input[row - taps + 1 + j][c])`.
///
/// The last `taps - 1` inputs of a sequence are its state; zeros before its first.
#[derive(Clone, Debug)]
pub struct Conv {
    /// `[rows, width]`
    pub input: Slot,
    /// Result `[rows, width]`, not `input`.
    pub out: Slot,
    /// `[taps, width]`: the newest input has the last tap.
    pub weight: WeightRef,
    /// Terms `[width]`, or none.
    pub bias: Option<WeightRef>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Index into [`crate::StateLayout::widths`], `(taps - 1) * width` values.
    pub state: usize,
}

/// A gated delta rule (arXiv 2412.06464): each head keeps a matrix `S`
/// `[key_width][value_width]` that maps keys to values.
///
/// For each row and value head, with `q`, `k` of unit length and `q` divided by
/// the root of the key width: `S *= exp(decay * softplus(alpha + bias))`, then
/// `S += k (sigmoid(beta) * (v - S^T k))^T`, and `out = S^T q`.
#[derive(Clone, Debug)]
pub struct DeltaNet {
    /// `[rows, 2 * n_key_heads * key_width + n_value_heads * value_width]`: queries,
    /// keys, values.
    pub qkv: Slot,
    /// `[rows, n_value_heads]`
    pub alpha: Slot,
    /// `[rows, n_value_heads]`
    pub beta: Slot,
    /// Result `[rows, n_value_heads * value_width]`.
    pub out: Slot,
    /// Factors `[n_value_heads]` of the decay, negative.
    pub decay: WeightRef,
    /// Terms `[n_value_heads]` of `alpha`.
    pub bias: WeightRef,
    /// Query and key heads.
    pub n_key_heads: usize,
    /// Value heads, a multiple of them.
    pub n_value_heads: usize,
    /// Value head `h` uses key head `h / (n_value_heads / n_key_heads)`, so that those of
    /// one key head are neighbours; otherwise `h % n_key_heads`.
    pub grouped: bool,
    /// Values per query and key head.
    pub key_width: usize,
    /// Values per value head.
    pub value_width: usize,
    /// Added under the root of a vector's squared length.
    pub epsilon: f32,
    /// Index into [`crate::StateLayout::widths`],
    /// `n_value_heads * key_width * value_width` values.
    pub state: usize,
}

impl DeltaNet {
    /// The key head that a value head uses.
    pub fn key_head(&self, value_head: usize) -> usize {
        match self.grouped {
            true => value_head / (self.n_value_heads / self.n_key_heads),
            false => value_head % self.n_key_heads,
        }
    }
}

/// A selective scan: the state-space layer of Mamba (arXiv 2312.00752) and of Mamba 2
/// (arXiv 2405.21060). Each value `x` of a head keeps a vector `S` of `state_width`.
///
/// For each row and head, with `d = softplus(dt + bias)`: `S = exp(d * decay) * S + d x b`,
/// element by element, and `out = S . c + skip * x`.
#[derive(Clone, Debug)]
pub struct SelectiveScan {
    /// `[rows, n_heads * head_width]`
    pub x: Slot,
    /// `[rows, n_heads]`
    pub dt: Slot,
    /// `[rows, n_groups * state_width]`; head `h` reads group `h / (n_heads / n_groups)`.
    pub b: Slot,
    /// `[rows, n_groups * state_width]`
    pub c: Slot,
    /// Result `[rows, n_heads * head_width]`, none of the above.
    pub out: Slot,
    /// `[state_width, n_heads]`, or `[1, n_heads]` for one per head; negative.
    pub decay: WeightRef,
    /// Terms `[n_heads]` of `dt`.
    pub bias: WeightRef,
    /// Factors `[n_heads]`.
    pub skip: WeightRef,
    /// Heads; the values themselves in Mamba, whose heads are 1 wide.
    pub n_heads: usize,
    /// Values per head.
    pub head_width: usize,
    /// Values that each of them keeps.
    pub state_width: usize,
    /// Groups of heads with the same `b` and `c`; divides `n_heads`.
    pub n_groups: usize,
    /// Index into [`crate::StateLayout::widths`],
    /// `n_heads * head_width * state_width` values.
    pub state: usize,
}
