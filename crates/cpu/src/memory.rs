//! What a session takes of memory, by arithmetic: before anything is uploaded or opened.

use std::collections::{BTreeMap, HashSet};

use realm_gguf::TensorData;
use realm_ir::{
    ExpertWeights, KvLayer, MemoryPlan, Moe, Program, Result, SessionConfig, Slot, Step,
    WeightLayout, WeightRef, bytes_of,
};
use realm_quant::{ActivationForm, Activations, Level};

use crate::kv;
use crate::machine;
use crate::ops::{attend, linear, moe};
use crate::state::rows_there_are;
use crate::weight;

/// What `program` takes in a session of these sizes on `n_workers` threads.
///
/// # Errors
/// `UnsupportedType` for a weight without a format.
pub(crate) fn plan(
    program: &Program,
    config: &SessionConfig,
    n_workers: usize,
    level: Level,
) -> Result<MemoryPlan> {
    for tensor in &program.weights {
        weight::format_of(tensor)?;
    }
    let matrices = matrices(program, level);
    let packed: u64 = matrices.iter().map(|m| packed_bytes(program.weight(*m), level)).sum();
    let layout = layout(config.layout, packed);
    let is_copied = layout == WeightLayout::Packed && !weight::IS_PACKED_WHOLE;
    let copied = if is_copied { matrices } else { Vec::new() };
    let session = Session { program, config, n_workers };
    Ok(MemoryPlan {
        layout,
        weights: weights(program, &copied, level),
        copies: if is_copied { packed } else { 0 },
        kv: kv::n_bytes(&config.kv),
        states: config.states.bytes(),
        slots: session.slots() + session.scratch(),
    })
}

/// The layout of matrices of which copies take `packed` bytes.
fn layout(wanted: WeightLayout, packed: u64) -> WeightLayout {
    let is_packed = match wanted {
        // Whatever is uploaded there is a copy already, in the better layout.
        _ if weight::IS_PACKED_WHOLE => true,
        WeightLayout::Mapped => false,
        WeightLayout::Packed => packed > 0,
        // Nobody else is to feel the copies: twice as much has to be free.
        WeightLayout::Auto => {
            packed > 0 && machine::available_memory_bytes().is_some_and(|bytes| packed <= bytes / 2)
        }
    };
    if is_packed { WeightLayout::Packed } else { WeightLayout::Mapped }
}

/// The matrices that whole products are taken with, each once, in the order in which a token
/// meets them: those of which copies are made. Experts are left as they are: a copy would read
/// those that nobody routes to.
pub(crate) fn matrices(program: &Program, level: Level) -> Vec<WeightRef> {
    let mut met = HashSet::new();
    let linears = program.segments.iter().flatten().filter_map(|step| match step {
        Step::Linear(linear) => Some(&linear.outputs),
        _ => None,
    });
    linears
        .flatten()
        .map(|output| output.weight)
        .filter(|weight| met.insert(*weight) && packed_bytes(program.weight(*weight), level) > 0)
        .collect()
}

fn packed_bytes(tensor: &TensorData, level: Level) -> u64 {
    weight::packed_bytes(tensor, level) as u64
}

/// Bytes of the weights as they are kept: as they are uploaded, vectors as plain values as well.
/// What is mapped and of which there is another copy is let go.
fn weights(program: &Program, copied: &[WeightRef], level: Level) -> u64 {
    let steps = || program.segments.iter().flatten();
    // Rows are looked up in the file's own layout.
    let looked_up: HashSet<WeightRef> = steps()
        .filter_map(|step| match step {
            Step::Embed(embed) => Some(embed.table),
            _ => None,
        })
        .collect();
    let copied: HashSet<WeightRef> = copied.iter().copied().collect();
    let vectors: HashSet<WeightRef> = steps().flat_map(vectors_of).collect();
    let mut bytes = 0;
    for (index, tensor) in program.weights.iter().enumerate() {
        let weight = WeightRef(index);
        let uploaded = weight::uploaded_bytes(tensor, level) as u64;
        let is_vector = vectors.contains(&weight);
        let let_go = match tensor.origin() {
            Some(_) if is_vector => uploaded,
            Some(_) if copied.contains(&weight) && !looked_up.contains(&weight) => {
                packed_bytes(tensor, level)
            }
            _ => 0,
        };
        let values = if is_vector { bytes_of(tensor.n_rows(), 4 * tensor.row_len()) } else { 0 };
        bytes += uploaded - let_go + values;
    }
    bytes
}

/// The weights that a step reads as plain values.
fn vectors_of(step: &Step) -> Vec<WeightRef> {
    let optional: Vec<Option<WeightRef>> = match step {
        Step::Embed(embed) => vec![embed.positions, embed.constant],
        Step::Norm(norm) => vec![norm.weight, norm.bias],
        Step::Linear(linear) => linear.outputs.iter().map(|output| output.bias).collect(),
        Step::RopeStore(step) => {
            let norms = step.head_norm.iter();
            norms.flat_map(|norm| [norm.q_weight, norm.k_weight]).map(Some).collect()
        }
        Step::Attend(attend) => vec![attend.sinks],
        Step::Moe(moe) => {
            let ExpertWeights { gate_bias, up_bias, down_bias, .. } = moe.experts;
            let ExpertWeights { gate_scale, up_scale, down_scale, .. } = moe.experts;
            let of_experts = [gate_bias, up_bias, down_bias, gate_scale, up_scale, down_scale];
            [moe.router_bias, moe.choice_bias].into_iter().chain(of_experts).collect()
        }
        Step::Conv(conv) => vec![Some(conv.weight), conv.bias],
        Step::DeltaNet(step) => vec![Some(step.decay), Some(step.bias)],
        Step::SelectiveScan(step) => vec![Some(step.decay), Some(step.bias), Some(step.skip)],
        Step::Rope(_)
        | Step::GatedAct(_)
        | Step::Add(_)
        | Step::TakeRows(_)
        | Step::HeadLinear(_)
        | Step::Mix(_)
        | Step::Sparsify(_) => Vec::new(),
    };
    optional.into_iter().flatten().collect()
}

/// The sizes that the memory of a session follows from.
struct Session<'a> {
    program: &'a Program,
    config: &'a SessionConfig,
    n_workers: usize,
}

impl Session<'_> {
    fn rows(&self, slot: Slot) -> usize {
        let SessionConfig { max_rows, max_outputs, .. } = *self.config;
        rows_there_are(self.program.slots[slot.0].rows, max_rows, max_outputs)
    }

    fn slots(&self) -> u64 {
        let slots = (0..self.program.slots.len()).map(Slot);
        slots.map(|slot| bytes_of(self.rows(slot), 4 * self.program.width(slot))).sum()
    }

    /// The most that steps use and leave, or give back only to take it again.
    fn scratch(&self) -> u64 {
        let steps = || self.program.segments.iter().flatten();
        let workers = self.n_workers as u64;
        self.activations()
            + workers * steps().map(|step| self.per_worker(step)).max().unwrap_or(0)
            + workers * steps().map(|step| self.attention(step)).max().unwrap_or(0)
            + steps().map(|step| self.for_a_step(step)).max().unwrap_or(0)
    }

    /// The rows that products multiply with. Of each form that a product's matrices want there is
    /// one buffer, which the products share: it is as large as the largest.
    fn activations(&self) -> u64 {
        let mut buffers: BTreeMap<(usize, bool), u64> = BTreeMap::new();
        for step in self.program.segments.iter().flatten() {
            let Step::Linear(linear) = step else { continue };
            let mut forms: Vec<ActivationForm> = Vec::new();
            for output in &linear.outputs {
                let form = form_of(self.program.weight(output.weight));
                if !forms.contains(&form) {
                    forms.push(form);
                }
            }
            let Some(first) = linear.outputs.first() else { continue };
            let width = self.program.weight(first.weight).row_len();
            for (index, form) in forms.into_iter().enumerate() {
                let bytes = bytes_of(self.rows(linear.input), Activations::row_bytes(form, width));
                // Floats have an array of their own.
                let buffer = buffers.entry((index, form == ActivationForm::F32)).or_default();
                *buffer = bytes.max(*buffer);
            }
        }
        buffers.values().sum()
    }

    /// What a worker keeps of a product or a mix.
    fn per_worker(&self, step: &Step) -> u64 {
        match step {
            Step::Linear(step) => bytes_of(linear::most_tile_values(self.rows(step.input)), 4),
            Step::Mix(mix) => bytes_of(mix.outputs.len(), 4 * self.program.width(mix.outputs[0])),
            _ => 0,
        }
    }

    /// What a worker keeps of attention.
    fn attention(&self, step: &Step) -> u64 {
        let Step::Attend(attend) = step else { return 0 };
        let layer: KvLayer = self.config.kv.layers[attend.kv_layer];
        let group = attend.n_heads / layer.n_kv_heads.max(1);
        bytes_of(attend::scratch_values(&layer, group, self.config.kv.page_tokens), 4)
    }

    /// What a step takes while it runs.
    fn for_a_step(&self, step: &Step) -> u64 {
        match step {
            Step::Moe(moe) => self.experts(moe),
            Step::HeadLinear(step) => {
                let form = form_of(self.program.weight(step.weight));
                let row = 4 * step.out_width + Activations::row_bytes(form, step.in_width);
                let at_once = self.n_workers.min(step.n_heads);
                bytes_of(at_once * self.rows(step.input), row)
            }
            _ => 0,
        }
    }

    fn experts(&self, step: &Moe) -> u64 {
        let n_visits = self.rows(step.input) * step.n_used;
        let [up, down] =
            [step.experts.up, step.experts.down].map(|weight| self.program.weight(weight));
        let forms = (form_of(up), form_of(down));
        let has_gate = step.experts.gate.is_some();
        let visit = moe::bytes_per_visit(up.row_len(), down.row_len(), forms, has_gate);
        bytes_of(n_visits, visit) + bytes_of(self.rows(step.router_input), 4 * step.n_experts)
    }
}

/// What a weight multiplies with; every weight has been found to have a format.
fn form_of(tensor: &TensorData) -> ActivationForm {
    realm_quant::format(tensor.ty()).map_or(ActivationForm::F32, |format| format.activation)
}
