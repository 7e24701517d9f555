//! What a session takes of memory.

use crate::config::WeightLayout;

/// Bytes that a program takes on a backend when every page, state and copy is in use: known
/// before anything is uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    /// How matrices are going to be kept; never [`WeightLayout::Auto`] of a backend's plan.
    pub layout: WeightLayout,
    /// Weights as they are uploaded. A mapped file's bytes count as long as they stay in use:
    /// those of which there is a copy are let go.
    pub weights: u64,
    /// Copies of weights in another layout.
    pub copies: u64,
    /// The KV cache, all pages.
    pub kv: u64,
    /// Recurrent states, all of them.
    pub states: u64,
    /// Everything else: slots, scratch memory, batches, lists of pages.
    pub slots: u64,
}

impl MemoryPlan {
    /// Bytes of all of it.
    pub fn total(&self) -> u64 {
        let MemoryPlan { layout: _, weights, copies, kv, states, slots } = *self;
        [copies, kv, states, slots].into_iter().fold(weights, u64::saturating_add)
    }
}

/// Bytes of `count` things that take `bytes` each.
pub fn bytes_of(count: usize, bytes: usize) -> u64 {
    (count as u64).saturating_mul(bytes as u64)
}
