//! Low-rank additions to weights that stay as they are: LoRA (arXiv 2106.09685).

use realm_gguf::TensorData;

use crate::operands::{Uploaded, WeightRef};

/// An addition `scale * b a` to one weight.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// What it is added to.
    pub weight: WeightRef,
    /// `[in_width, rank]`; for the weights of experts `[in_width, rank, n_experts]`.
    pub a: TensorData,
    /// `[rank, out_width]`; for the weights of experts `[rank, out_width, n_experts]`.
    pub b: TensorData,
    /// Factor on the product.
    pub scale: f32,
}

/// Additions to some weights of a program.
#[derive(Clone, Debug, Default)]
pub struct Adapter {
    /// Where a weight is multiplied with `x`, `scale * b (a x)` is added. At most one per weight.
    pub products: Vec<LowRank>,
    /// Where row `i` of a weight is looked up, `scale * b a[i]` is added; here `a` is
    /// `[rank, n_rows]` and `b` is `[rank, row length]`. At most one per weight.
    pub lookups: Vec<LowRank>,
}

/// An adapter that a sequence runs with.
#[derive(Clone, Debug)]
pub struct AdapterUse {
    /// What [`crate::Backend::upload_adapter`] gave.
    pub adapter: Uploaded,
    /// Factor on everything that it adds.
    pub scale: f32,
}
