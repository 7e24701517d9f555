//! Steps that carry a state from row to row.

use realm_ir::{BatchView, Conv, DeltaNet, SelectiveScan, SequenceView};
use realm_quant::Level;

use crate::math;
use crate::parts::Parts;
use crate::plan::SelectiveScanOp;
use crate::pool::Team;
use crate::state::State;
use crate::weight::WeightHandle;

/// Whether a sequence begins with this batch, so that its state is to be forgotten.
fn begins(batch: &BatchView<'_>, sequence: &SequenceView<'_>) -> bool {
    sequence.n_rows > 0 && batch.positions[sequence.first_row] == 0
}

/// A short causal convolution of each column.
pub(crate) fn conv(
    op: &Conv,
    weight: &WeightHandle,
    bias: Option<&WeightHandle>,
    state: &mut State,
    batch: &BatchView<'_>,
) {
    let (taps, width) = (weight.row_len(), weight.n_rows());
    let (level, kernel) = (state.level, weight.values());
    let out_stride = state.slots.width(op.out);
    let (out, others) = state.slots.split(op.out);
    for sequence in batch.sequences {
        let range = state.recurrent.range(sequence.state, op.state);
        let past = &mut state.recurrent.values()[range];
        if begins(batch, sequence) {
            past.fill(0.0);
        }
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            let input = &others.row(op.input, row)[..width];
            let out = &mut out[row * out_stride..][..width];
            match bias {
                Some(bias) => out.copy_from_slice(&bias.values()[..width]),
                None => out.fill(0.0),
            }
            let inputs = past.chunks_exact(width).chain([input]);
            for (tap, values) in inputs.enumerate() {
                for (column, (out, value)) in out.iter_mut().zip(values).enumerate() {
                    *out += kernel[column * taps + tap] * value;
                }
            }
            math::gated(level, op.activation, out, None);
            // The oldest input leaves, this one joins.
            if taps > 1 {
                past.copy_within(width.., 0);
                past[(taps - 2) * width..].copy_from_slice(input);
            }
        }
    }
}

/// A gated delta rule. A task is one value head of one sequence.
pub(crate) fn delta_net(
    op: &DeltaNet,
    decay: &WeightHandle,
    bias: &WeightHandle,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) {
    let (level, out_stride) = (state.level, state.slots.width(op.out));
    let (out, others) = state.slots.split(op.out);
    let out_parts = Parts::new(out);
    let ranges: Vec<_> = batch
        .sequences
        .iter()
        .map(|sequence| state.recurrent.range(sequence.state, op.state))
        .collect();
    let state_parts = Parts::new(state.recurrent.values());
    let len = op.key_width * op.value_width;
    team.for_each(batch.sequences.len() * op.n_value_heads, &|_, task| {
        let (sequence, head) = (task / op.n_value_heads, task % op.n_value_heads);
        let first = ranges[sequence].start + head * len;
        // SAFETY: sequences have states of their own, as `BatchView::check` has seen, and each
        // head of one is one task.
        let memory = unsafe { state_parts.part(first..first + len) };
        let sequence = &batch.sequences[sequence];
        if begins(batch, sequence) {
            memory.fill(0.0);
        }
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            let value = |slot| others.row(slot, row)[head];
            let step = math::softplus(value(op.alpha) + bias.values()[head]);
            let head_row = HeadRow {
                op,
                level,
                qkv: others.row(op.qkv, row),
                head,
                decay: (decay.values()[head] * step).exp(),
                rate: 1.0 / (1.0 + (-value(op.beta)).exp()),
            };
            let start = row * out_stride + head * op.value_width;
            // SAFETY: each head of a row belongs to one task.
            let out = unsafe { out_parts.part(start..start + op.value_width) };
            head_row.update(memory, out);
        }
    });
}

/// One value head of one row.
struct HeadRow<'a> {
    op: &'a DeltaNet,
    level: Level,
    qkv: &'a [f32],
    head: usize,
    /// What the memory is multiplied with.
    decay: f32,
    /// How much of the difference is learned.
    rate: f32,
}

impl HeadRow<'_> {
    /// Decays the memory, learns the row's key and value, and reads with its query.
    fn update(&self, memory: &mut [f32], out: &mut [f32]) {
        let op = self.op;
        let keys = op.n_key_heads * op.key_width;
        let key_head = op.key_head(self.head) * op.key_width;
        let value = &self.qkv[2 * keys + self.head * op.value_width..][..op.value_width];
        let query = self.unit(key_head, 1.0 / (op.key_width as f32).sqrt());
        let key = self.unit(keys + key_head, 1.0);

        // out: what the memory says for the key.
        out.fill(0.0);
        for (row, k) in memory.chunks_exact_mut(op.value_width).zip(&key) {
            for (out, m) in out.iter_mut().zip(row) {
                *m *= self.decay;
                *out += k * *m;
            }
        }
        let delta: Vec<f32> = value.iter().zip(&*out).map(|(v, o)| self.rate * (v - o)).collect();
        out.fill(0.0);
        for ((row, k), q) in memory.chunks_exact_mut(op.value_width).zip(&key).zip(&query) {
            for ((out, m), d) in out.iter_mut().zip(row).zip(&delta) {
                *m += k * d;
                *out += q * *m;
            }
        }
    }

    /// A vector of unit length, times `scale`.
    fn unit(&self, first: usize, scale: f32) -> Vec<f32> {
        let vector = &self.qkv[first..][..self.op.key_width];
        let length = (math::sum_of_squares(self.level, vector) + self.op.epsilon).sqrt();
        vector.iter().map(|x| x / length * scale).collect()
    }
}

/// Values of a task of a selective scan: enough to be worth handing out.
const SCAN_VALUES_PER_TASK: usize = 64;

/// A selective scan. A task is some heads of one sequence.
pub(crate) fn selective_scan(
    op: &SelectiveScanOp,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) {
    let step = &op.step;
    let (level, out_stride) = (state.level, state.slots.width(step.out));
    let (out, others) = state.slots.split(step.out);
    let out_parts = Parts::new(out);
    let ranges: Vec<_> = batch
        .sequences
        .iter()
        .map(|sequence| state.recurrent.range(sequence.state, step.state))
        .collect();
    let state_parts = Parts::new(state.recurrent.values());
    let heads_per_task = SCAN_VALUES_PER_TASK.div_ceil(step.head_width);
    let tasks = step.n_heads.div_ceil(heads_per_task);
    team.for_each(batch.sequences.len() * tasks, &|_, task| {
        let (sequence, first_head) = (task / tasks, task % tasks * heads_per_task);
        let heads = first_head..step.n_heads.min(first_head + heads_per_task);
        let values = heads.start * step.head_width..heads.end * step.head_width;
        let first = ranges[sequence].start;
        let range = first + values.start * step.state_width..first + values.end * step.state_width;
        // SAFETY: sequences have states of their own, as `BatchView::check` has seen, and each
        // head of one is one task.
        let memory = unsafe { state_parts.part(range) };
        let sequence = &batch.sequences[sequence];
        if begins(batch, sequence) {
            memory.fill(0.0);
        }
        let mut decays = Vec::new();
        for row in sequence.first_row..sequence.first_row + sequence.n_rows {
            let start = row * out_stride;
            // SAFETY: each head of a row belongs to one task.
            let out = unsafe { out_parts.part(start + values.start..start + values.end) };
            let (x, dt) = (&others.row(step.x, row)[values.clone()], others.row(step.dt, row));
            let heads_of_row = out
                .chunks_exact_mut(step.head_width)
                .zip(x.chunks_exact(step.head_width))
                .zip(memory.chunks_exact_mut(step.head_width * step.state_width));
            for (head, ((out, x), memory)) in heads.clone().zip(heads_of_row) {
                let time = math::softplus(dt[head] + op.bias.values()[head]);
                let group = head / (step.n_heads / step.n_groups) * step.state_width;
                let (b, c) = (&others.row(step.b, row)[group..], &others.row(step.c, row)[group..]);
                let n_decays = op.decay.row_len();
                decays.clear();
                decays.extend_from_slice(&op.decay.values()[head * n_decays..][..n_decays]);
                math::exp_scaled(level, time, &mut decays);
                let (inputs, skip) = ((x, b, c), op.skip.values()[head]);
                scan_head((level, step), memory, &decays, time, inputs, skip, out);
            }
        }
    });
}

/// One head of one row.
fn scan_head(
    (level, step): (Level, &SelectiveScan),
    memory: &mut [f32],
    decays: &[f32],
    time: f32,
    (x, b, c): (&[f32], &[f32], &[f32]),
    skip: f32,
    out: &mut [f32],
) {
    for ((out, x), memory) in out.iter_mut().zip(x).zip(memory.chunks_exact_mut(step.state_width)) {
        *out = math::scan(level, memory, decays, time * x, b, c) + skip * x;
    }
}
