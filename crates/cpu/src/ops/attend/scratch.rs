//! What a worker has of a tile while it computes attention.

use realm_quant::Level;

use crate::math;

/// What is known of some positions, for each query row of a tile.
#[derive(Default)]
pub(super) struct Partial {
    /// Largest score.
    pub(super) max: Vec<f32>,
    /// Sum of the weights, relative to the largest score.
    pub(super) sum: Vec<f32>,
    /// Weighted sum of the values, `[query rows][value stride]`.
    pub(super) values: Vec<f32>,
}

impl Partial {
    /// Forgets everything.
    pub(super) fn clear(&mut self, n_queries: usize, value_stride: usize) {
        let refill = |list: &mut Vec<f32>, len, value| {
            list.clear();
            list.resize(len, value);
        };
        refill(&mut self.max, n_queries, f32::NEG_INFINITY);
        refill(&mut self.sum, n_queries, 0.0);
        refill(&mut self.values, n_queries * value_stride, 0.0);
    }

    /// Adds what is known of the positions that follow.
    pub(super) fn merge(&mut self, next: &Partial, level: Level) {
        let stride = self.values.len() / self.max.len();
        let rows = self.values.chunks_exact_mut(stride).zip(next.values.chunks_exact(stride));
        for (query, (values, next_values)) in rows.enumerate() {
            if next.max[query] == f32::NEG_INFINITY {
                continue;
            }
            let max = self.max[query].max(next.max[query]);
            let factor = math::exp(self.max[query] - max);
            let next_factor = math::exp(next.max[query] - max);
            self.max[query] = max;
            self.sum[query] = self.sum[query] * factor + next.sum[query] * next_factor;
            math::blend(level, values, factor, next_values, next_factor);
        }
    }
}

/// One worker's memory.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) work: Work,
    pub(super) chunk: Partial,
    pub(super) total: Partial,
}

/// Query rows `[rows][heads of the group][key width]`, scaled, and their scores.
#[derive(Default)]
pub(super) struct Work {
    pub(super) queries: Vec<f32>,
    pub(super) scores: Vec<f32>,
    /// A page's keys or values, where the cache holds them in another form.
    pub(super) unpacked: Vec<f32>,
}
