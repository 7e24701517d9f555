//! Attention of each row over its own sequence.
//!
//! A task is one row and one key/value head: the query heads that share it read
//! each key and value while it is in the first-level cache. Scores of all
//! positions are kept, so the softmax is the plain one.

use std::ops::Range;

use realm_ir::{Activation, Attend, BatchView, SequenceView};
use realm_quant::vector;

use crate::kv::{KvCache, KvValues};
use crate::math;
use crate::parts::Parts;
use crate::pool::Team;
use crate::session::State;

/// One row's place in the batch.
struct RowContext<'a> {
    sequence: &'a SequenceView<'a>,
    /// Positions it sees: from the first to before the last.
    first: usize,
    end: usize,
}

/// Runs attention for every row.
pub(crate) fn attend(op: &Attend, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
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
        attend_head(op, kv, &rows[row], head, q, &mut scores, out);
    });
    state.slots.put(op.out, out);
}

fn row_contexts<'a>(op: &Attend, batch: &'a BatchView<'_>) -> Vec<RowContext<'a>> {
    let mut rows = Vec::with_capacity(batch.n_rows());
    for sequence in batch.sequences {
        let positions = &batch.positions[sequence.first_row..][..sequence.n_rows];
        let last = positions.last().copied().unwrap_or(0);
        rows.extend(positions.iter().map(|position| {
            let window = op.window.unwrap_or(u32::MAX);
            let first = (position + 1).saturating_sub(window) as usize;
            let end = if op.causal { *position } else { last } as usize + 1;
            RowContext { sequence, first, end }
        }));
    }
    rows
}

/// Attention of the query heads that share one key/value head.
fn attend_head(
    op: &Attend,
    kv: &KvCache,
    row: &RowContext<'_>,
    head: usize,
    q: &[f32],
    scratch: &mut Vec<f32>,
    out: &mut [f32],
) {
    let shape = kv.shape();
    let layer = shape.layer(op.kv_layer);
    let n = row.end - row.first;
    let group = q.len() / layer.key_width;
    scratch.resize(group * n, 0.0);
    for_each_page(row, shape.page_tokens, |page, slots, done| {
        let first = shape.keys(op.kv_layer, page, head) + slots.start * layer.key_width;
        for i in 0..slots.len() {
            let at = first + i * layer.key_width;
            let queries = q.chunks_exact(layer.key_width);
            for (query, scores) in queries.zip(scratch.chunks_exact_mut(n)) {
                scores[done + i] = op.scale * dot(kv.values(), query, at);
            }
        }
    });
    if let Some(cap) = op.softcap {
        math::gated(Activation::Softcap(cap), scratch, None);
    }
    for scores in scratch.chunks_exact_mut(n) {
        let sum = math::softmax_weights(scores);
        scores.iter_mut().for_each(|weight| *weight /= sum);
    }
    out.fill(0.0);
    for_each_page(row, shape.page_tokens, |page, slots, done| {
        let first = shape.values(op.kv_layer, page, head) + slots.start * layer.value_width;
        for i in 0..slots.len() {
            let at = first + i * layer.value_width;
            let outs = out.chunks_exact_mut(layer.value_width);
            for (out, weights) in outs.zip(scratch.chunks_exact(n)) {
                add_scaled(kv.values(), weights[done + i], at, out);
            }
        }
    });
}

/// Calls `visit(page, slots, done)` for the pages that hold the row's positions;
/// `done` positions came before.
fn for_each_page(
    row: &RowContext<'_>,
    page_tokens: usize,
    mut visit: impl FnMut(u32, Range<usize>, usize),
) {
    let mut position = row.first;
    while position < row.end {
        let slot = position % page_tokens;
        let end = page_tokens.min(slot + row.end - position);
        visit(row.sequence.pages[position / page_tokens], slot..end, position - row.first);
        position += end - slot;
    }
}

/// Product of a query with the key at `at`.
fn dot(values: &KvValues, query: &[f32], at: usize) -> f32 {
    match values {
        KvValues::F32(values) => vector::dot_f32(query, &values[at..at + query.len()]),
        KvValues::F16(values) => vector::dot_f16(query, &values[at..at + query.len()]),
    }
}

/// Adds the value at `at`, times `weight`, to `out`.
fn add_scaled(values: &KvValues, weight: f32, at: usize, out: &mut [f32]) {
    match values {
        KvValues::F32(values) => vector::axpy_f32(weight, &values[at..at + out.len()], out),
        KvValues::F16(values) => vector::axpy_f16(weight, &values[at..at + out.len()], out),
    }
}
