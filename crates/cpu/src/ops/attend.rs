//! Attention of each row over its own sequence.
//!
//! A task is one row and one key/value head: the query heads that share it read
//! each key and value while it is in the first-level cache. Scores of all
//! positions are kept, so the softmax is the plain one.

use std::ops::Range;

use realm_ir::{Activation, Attend, BatchView, SequenceView};

use super::attend_kernels::{self, Element};
use crate::kv::{KvShape, KvValues};
use crate::math;
use crate::parts::Parts;
use crate::plan::WeightHandle;
use crate::pool::Team;
use crate::session::State;

/// One row's place in the batch.
struct RowContext<'a> {
    sequence: &'a SequenceView<'a>,
    position: usize,
    /// Positions it sees: from the first to before the last.
    first: usize,
    end: usize,
}

/// Runs attention for every row.
pub(crate) fn attend(
    op: &Attend,
    sinks: Option<&WeightHandle>,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) {
    let layer = state.kv.shape().layer(op.kv_layer);
    let (q_width, out_width) = (state.slots.width(op.q), state.slots.width(op.out));
    let group = op.n_heads / layer.n_kv_heads;
    let mut out = state.slots.take(op.out);
    let parts = Parts::new(&mut out);
    let q = state.slots.get(op.q);
    let (kv, per_worker) = (&state.kv, &state.scratch.per_worker);
    let rows = row_contexts(op, batch);

    team.for_each(rows.len() * layer.n_kv_heads, &|worker, task| {
        let (row, head) = (task / layer.n_kv_heads, task % layer.n_kv_heads);
        let q_start = row * q_width + head * group * layer.key_width;
        let q = &q[q_start..q_start + group * layer.key_width];
        let out_start = row * out_width + head * group * layer.value_width;
        // SAFETY: the heads of a row belong to one task each.
        let out = unsafe { parts.part(out_start..out_start + group * layer.value_width) };
        let mut scores = per_worker[worker].lock().expect("a worker locks its own scratch");
        let sinks = sinks.map_or(&[][..], |sinks| &sinks.values()[head * group..][..group]);
        let head = Head { op, sinks, shape: kv.shape(), row: &rows[row], head };
        match kv.values() {
            KvValues::F32(values) => head.attend(values.as_slice(), q, &mut scores, out),
            KvValues::F16(values) => head.attend(values.as_slice(), q, &mut scores, out),
        }
    });
    state.slots.put(op.out, out);
}

fn row_contexts<'a>(op: &Attend, batch: &'a BatchView<'_>) -> Vec<RowContext<'a>> {
    let mut rows = Vec::with_capacity(batch.n_rows());
    for sequence in batch.sequences {
        let positions = &batch.positions[sequence.first_row..][..sequence.n_rows];
        let last = positions.last().copied().unwrap_or(0);
        rows.extend(positions.iter().map(|position| {
            let Range { start: first, end } = seen(op, *position as usize, last as usize);
            RowContext { sequence, position: *position as usize, first, end }
        }));
    }
    rows
}

/// The positions that a row sees, in a sequence that ends at `last`.
fn seen(op: &Attend, position: usize, last: usize) -> Range<usize> {
    let end = if op.causal { position } else { last } + 1;
    match op.window.map(|window| window as usize) {
        None => 0..end,
        Some(window) if op.chunked => position / window * window..end,
        Some(window) if op.causal => (position + 1).saturating_sub(window)..end,
        Some(window) => position.saturating_sub(window / 2)..end.min(position + window / 2 + 1),
    }
}

/// How much a head's score falls per position of distance (ALiBi): a geometric
/// series over the largest power of two of heads, then every other term of the next.
fn slope(head: usize, n_heads: usize, max_bias: f32) -> f32 {
    let n = n_heads.next_power_of_two() >> usize::from(!n_heads.is_power_of_two());
    let (n, k) = if head < n { (n, head + 1) } else { (2 * n, 2 * (head - n) + 1) };
    (-max_bias * k as f32 / n as f32).exp2()
}

/// One key/value head of one row.
struct Head<'a> {
    op: &'a Attend,
    /// One for each query head of this group, or none.
    sinks: &'a [f32],
    shape: &'a KvShape,
    row: &'a RowContext<'a>,
    head: usize,
}

impl Head<'_> {
    /// Attention of the query heads `q` that share this key/value head.
    fn attend<T: Element>(&self, kv: &[T], q: &[f32], scratch: &mut Vec<f32>, out: &mut [f32]) {
        let layer = self.shape.layer(self.op.kv_layer);
        let n = self.row.end - self.row.first;
        scratch.resize(q.len() / layer.key_width * n, 0.0);
        self.for_each_run(|page, slots, done| {
            let first = self.shape.keys(self.op.kv_layer, page, self.head);
            let keys =
                &kv[first + slots.start * layer.key_width..][..slots.len() * layer.key_width];
            let queries = q.chunks_exact(layer.key_width);
            for (query, scores) in queries.zip(scratch.chunks_exact_mut(n)) {
                let scores = &mut scores[done..done + slots.len()];
                attend_kernels::scores(query, keys, self.op.scale, scores);
            }
        });
        if let Some(cap) = self.op.softcap {
            math::gated(Activation::Softcap(cap), scratch, None);
        }
        let group = q.len() / layer.key_width;
        for (index, scores) in scratch.chunks_exact_mut(n).enumerate() {
            if let Some(max_bias) = self.op.alibi_max_bias {
                let slope = slope(self.head * group + index, self.op.n_heads, max_bias);
                let distance = |i: usize| self.row.position.abs_diff(self.row.first + i) as f32;
                scores.iter_mut().enumerate().for_each(|(i, s)| *s -= slope * distance(i));
            }
            let sum = math::softmax_weights(scores, self.sinks.get(index).copied());
            scores.iter_mut().for_each(|weight| *weight /= sum);
        }
        out.fill(0.0);
        self.for_each_run(|page, slots, done| {
            let first = self.shape.values(self.op.kv_layer, page, self.head);
            let values =
                &kv[first + slots.start * layer.value_width..][..slots.len() * layer.value_width];
            let outs = out.chunks_exact_mut(layer.value_width);
            for (out, weights) in outs.zip(scratch.chunks_exact(n)) {
                attend_kernels::add_weighted(&weights[done..done + slots.len()], values, out);
            }
        });
    }

    /// Calls `visit(page, slots, done)` for the pages that hold the row's positions;
    /// `done` positions came before.
    fn for_each_run(&self, mut visit: impl FnMut(u32, Range<usize>, usize)) {
        let (row, page_tokens) = (self.row, self.shape.page_tokens);
        let mut position = row.first;
        while position < row.end {
            let slot = position % page_tokens;
            let end = page_tokens.min(slot + row.end - position);
            visit(row.sequence.pages[position / page_tokens], slot..end, position - row.first);
            position += end - slot;
        }
    }
}
