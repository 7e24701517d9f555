//! Head norms, rotation, and the way into the KV cache.

use realm_ir::{BatchView, Rope, RopeSpec, RopeStyle};
use realm_quant::Level;

use super::row::{norm_head, task_rows};
use crate::parts::Parts;
use crate::plan::{HeadNormOp, RopeStoreOp};
use crate::pool::Team;
use crate::state::State;
use crate::weight::WeightHandle;

/// Rows per task: enough to be worth handing out.
const ROWS_PER_TASK: usize = 8;

/// Rotates queries in place and stores keys and values.
pub(crate) fn rope_store(
    op: &RopeStoreOp,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) {
    let shape = state.kv.shape();
    let (layer, page_tokens) = (shape.layer(op.kv_layer), shape.page_tokens);
    let pages = pages_of_rows(batch, page_tokens);
    let [q_width, k_width, v_width] = [op.q, op.k, op.v].map(|slot| state.slots.width(slot));
    // Latent attention stores the first part of its only key as the value.
    let is_shared = op.k == op.v;
    let (q, k, v) = if is_shared {
        let [q, k] = state.slots.distinct([op.q, op.k]);
        (q, k, &[][..])
    } else {
        let [q, k, v] = state.slots.distinct([op.q, op.k, op.v]);
        (q, k, &*v)
    };
    let (q_parts, k_parts) = (Parts::new(q), Parts::new(k));
    let writer = state.kv.writer();
    let (level, n_rows) = (state.level, batch.n_rows());

    team.for_each(n_rows.div_ceil(ROWS_PER_TASK), &|_, task| {
        let mut turns = Turns::default();
        for row in task_rows(task, ROWS_PER_TASK, n_rows) {
            let position = batch.positions[row];
            let (page, slot) = (pages[row], position as usize % page_tokens);
            turns.set(op.rope.as_ref(), position);
            // SAFETY: each row belongs to one task.
            let q = unsafe { q_parts.part(row * q_width..(row + 1) * q_width) };
            for head in q.chunks_exact_mut(layer.key_width).take(op.n_heads) {
                let norm = op.head_norm.as_ref().map(|norm| (norm, &norm.q_weight));
                prepare(level, head, norm, &turns);
                if let Some(temperature) = &op.temperature {
                    let factor = temperature.at(position);
                    head.iter_mut().for_each(|value| *value *= factor);
                }
            }
            // SAFETY: each row belongs to one task.
            let k = unsafe { k_parts.part(row * k_width..(row + 1) * k_width) };
            let shared = if is_shared { k[..layer.value_width].to_vec() } else { Vec::new() };
            let v = if is_shared { &shared } else { &v[row * v_width..(row + 1) * v_width] };
            let keys = k.chunks_exact_mut(layer.key_width);
            let values = v.chunks_exact(layer.value_width);
            for (head, (key, value)) in keys.zip(values).take(layer.n_kv_heads).enumerate() {
                let norm = op.head_norm.as_ref().map(|norm| (norm, &norm.k_weight));
                prepare(level, key, norm, &turns);
                // SAFETY: a sequence has one row per position, and `BatchView::check` has seen
                // that rows write to no page from two places, so no other task has this one.
                unsafe {
                    writer.store_key(op.kv_layer, page, slot, head, key);
                    writer.store_value(op.kv_layer, page, slot, head, value);
                }
            }
        }
    });
}

/// Rotates heads in place.
pub(crate) fn rope(op: &Rope, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) {
    let (width, n_rows) = (state.slots.width(op.heads), batch.n_rows());
    let parts = Parts::new(state.slots.get_mut(op.heads));
    team.for_each(n_rows.div_ceil(ROWS_PER_TASK), &|_, task| {
        let mut turns = Turns::default();
        for row in task_rows(task, ROWS_PER_TASK, n_rows) {
            turns.set(Some(&op.rope), batch.positions[row]);
            // SAFETY: each row belongs to one task.
            let row = unsafe { parts.part(row * width..(row + 1) * width) };
            row.chunks_exact_mut(op.head_width).take(op.n_heads).for_each(|h| turns.rotate(h));
        }
    });
}

/// Normalises and rotates a head, in the order of its family.
fn prepare(
    level: Level,
    head: &mut [f32],
    norm: Option<(&HeadNormOp, &WeightHandle)>,
    turns: &Turns<'_>,
) {
    let apply = |head: &mut [f32], after_rope: bool| {
        if let Some((norm, weight)) = norm.filter(|(norm, _)| norm.after_rope == after_rope) {
            norm_head(level, head, weight.values(), norm.epsilon);
        }
    };
    apply(head, false);
    turns.rotate(head);
    apply(head, true);
}

/// The page that each row is stored in.
fn pages_of_rows(batch: &BatchView<'_>, page_tokens: usize) -> Vec<u32> {
    let mut pages = Vec::with_capacity(batch.n_rows());
    for sequence in batch.sequences {
        let positions = &batch.positions[sequence.first_row..][..sequence.n_rows];
        pages.extend(positions.iter().map(|p| sequence.pages[*p as usize / page_tokens]));
    }
    pages
}

/// Sine and cosine of each pair's angle at one position.
#[derive(Default)]
struct Turns<'a> {
    rope: Option<&'a RopeSpec>,
    sin_cos: Vec<(f32, f32)>,
}

impl<'a> Turns<'a> {
    fn set(&mut self, rope: Option<&'a RopeSpec>, position: u32) {
        self.rope = rope;
        self.sin_cos.clear();
        let Some(rope) = rope else { return };
        self.sin_cos.extend(rope.inverse_frequencies.iter().map(|frequency| {
            let (sin, cos) = (position as f32 * frequency).sin_cos();
            (sin * rope.magnitude, cos * rope.magnitude)
        }));
    }

    fn rotate(&self, head: &mut [f32]) {
        let Some(rope) = self.rope else { return };
        let n_pairs = self.sin_cos.len();
        for (i, (sin, cos)) in self.sin_cos.iter().enumerate() {
            let (a, b) = match rope.style {
                RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                RopeStyle::Halves => (i, i + n_pairs),
            };
            let (a, b) = (rope.offset + a, rope.offset + b);
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}
