//! From steps to operations: weights resolved, and what can be done row by row
//! on the way into a product joined with it.

use realm_ir::{
    Add, Attend, Conv, DeltaNet, Embed, GatedAct, HeadLinear, HeadNorm, Linear, Mix, Moe, Norm,
    NormKind, Program, Result, Rope, RopeSpec, RopeStore, SelectiveScan, Slot, Sparsify, Step,
    TakeRows, Temperature, Uploaded, WeightRef,
};
use realm_quant::ActivationForm;
use tracing::trace_span;

use crate::weight::WeightHandle;

/// One region of work, or a few.
pub(crate) enum Op {
    Embed(EmbedOp),
    PerRow(PerRow),
    Linear(LinearOp),
    RopeStore(RopeStoreOp),
    Rope(Rope),
    Attend { step: Attend, sinks: Option<WeightHandle> },
    Add(Add),
    TakeRows(TakeRows),
    Moe(Box<MoeOp>),
    HeadLinear { step: HeadLinear, weight: WeightHandle },
    Mix(MixOp),
    Conv { step: Conv, weight: WeightHandle, bias: Option<WeightHandle> },
    DeltaNet { step: DeltaNet, decay: WeightHandle, bias: WeightHandle },
    SelectiveScan(Box<SelectiveScanOp>),
}

impl Op {
    /// A span that tells how long the operation takes.
    pub fn span(&self) -> tracing::Span {
        match self {
            Op::Embed(_) => trace_span!("embed"),
            Op::PerRow(_) => trace_span!("per row"),
            Op::Linear(_) => trace_span!("linear"),
            Op::RopeStore(_) | Op::Rope(_) => trace_span!("rope"),
            Op::Attend { .. } => trace_span!("attend"),
            Op::Add(_) => trace_span!("add"),
            Op::TakeRows(_) => trace_span!("take rows"),
            Op::Moe(_) => trace_span!("moe"),
            Op::HeadLinear { .. } => trace_span!("head linear"),
            Op::Mix(_) => trace_span!("mix"),
            Op::Conv { .. } => trace_span!("conv"),
            Op::DeltaNet { .. } => trace_span!("delta net"),
            Op::SelectiveScan(_) => trace_span!("selective scan"),
        }
    }
}

pub(crate) struct EmbedOp {
    pub table: WeightHandle,
    pub out: Slot,
    pub scale: f32,
    pub positions: Option<WeightHandle>,
    pub constant: Option<WeightHandle>,
}

/// A mixture of experts.
pub(crate) struct MoeOp {
    pub step: Moe,
    pub router: WeightHandle,
    pub router_bias: Option<WeightHandle>,
    pub choice_bias: Option<WeightHandle>,
    pub gate: Option<ExpertMatrix>,
    pub up: ExpertMatrix,
    pub down: ExpertMatrix,
}

/// One matrix of every expert, one after another.
pub(crate) struct ExpertMatrix {
    pub weight: WeightHandle,
    pub bias: Option<WeightHandle>,
    /// One factor per expert.
    pub scale: Option<WeightHandle>,
    /// Output values of one expert.
    pub n_rows: usize,
    /// Rows of the tensor from one expert to the next.
    pub stride: usize,
    /// First row of an expert's part.
    pub first_row: usize,
}

/// Sums of slots.
pub(crate) struct MixOp {
    /// All slots of the step, each once: the outputs, the factors, then inputs that are no outputs.
    pub slots: Vec<Slot>,
    pub n_outputs: usize,
    /// Where each input is in `slots`.
    pub inputs: Vec<usize>,
    pub weights: Slot,
    pub accumulate: bool,
}

impl MixOp {
    fn new(step: &Mix) -> Self {
        let mut slots = step.outputs.clone();
        slots.push(step.weights);
        let mut place = |input: &Slot| {
            slots.iter().position(|slot| slot == input).unwrap_or_else(|| {
                slots.push(*input);
                slots.len() - 1
            })
        };
        let inputs = step.inputs.iter().map(&mut place).collect();
        let n_outputs = step.outputs.len();
        MixOp { slots, n_outputs, inputs, weights: step.weights, accumulate: step.accumulate }
    }
}

pub(crate) struct SelectiveScanOp {
    pub step: SelectiveScan,
    pub decay: WeightHandle,
    pub bias: WeightHandle,
    pub skip: WeightHandle,
}

/// Work on one row alone.
pub(crate) enum PerRow {
    Norm(NormOp),
    GatedAct(GatedAct),
    Sparsify(Sparsify),
}

impl PerRow {
    /// The slot it writes.
    pub fn out(&self) -> Slot {
        match self {
            PerRow::Norm(norm) => norm.out,
            PerRow::GatedAct(act) => act.out,
            PerRow::Sparsify(step) => step.values,
        }
    }
}

pub(crate) struct NormOp {
    pub input: Slot,
    pub out: Slot,
    pub kind: NormKind,
    pub groups: usize,
    pub width: usize,
    pub weight: Option<WeightHandle>,
    pub bias: Option<WeightHandle>,
    pub epsilon: f32,
}

/// Products of one input.
pub(crate) struct LinearOp {
    /// Makes the input's rows just before they are multiplied.
    pub before: Option<PerRow>,
    pub input: Slot,
    /// Values per input row; the same for all outputs.
    pub width: usize,
    /// What the outputs' formats multiply with, each once.
    pub forms: Vec<ActivationForm>,
    pub outputs: Vec<OutputOp>,
}

pub(crate) struct OutputOp {
    pub weight: WeightHandle,
    pub bias: Option<WeightHandle>,
    pub out: Slot,
    pub scale: f32,
    pub accumulate: bool,
    /// Index into [`LinearOp::forms`].
    pub form: usize,
}

pub(crate) struct RopeStoreOp {
    pub q: Slot,
    pub k: Slot,
    pub v: Slot,
    pub kv_layer: usize,
    pub n_heads: usize,
    pub head_norm: Option<HeadNormOp>,
    pub rope: Option<RopeSpec>,
    pub temperature: Option<Temperature>,
}

pub(crate) struct HeadNormOp {
    pub q_weight: WeightHandle,
    pub k_weight: WeightHandle,
    pub epsilon: f32,
    pub after_rope: bool,
}

/// Plans every segment.
///
/// # Errors
/// A weight of another backend, products of one input that disagree on its width, or a step
/// that writes a slot which it may not.
pub(crate) fn plan(program: &Program, weights: &[Uploaded]) -> Result<Vec<Vec<Op>>> {
    let planner = Planner { weights };
    program.segments.iter().map(|steps| planner.segment(steps)).collect()
}

struct Planner<'a> {
    weights: &'a [Uploaded],
}

impl Planner<'_> {
    fn segment(&self, steps: &[Step]) -> Result<Vec<Op>> {
        let mut ops = Vec::with_capacity(steps.len());
        for step in steps {
            let op = match step {
                Step::Embed(embed) => Op::Embed(self.embed(embed)?),
                Step::Norm(norm) => Op::PerRow(PerRow::Norm(self.norm(norm)?)),
                Step::GatedAct(act) => Op::PerRow(PerRow::GatedAct(act.clone())),
                Step::Linear(linear) => {
                    let before = self.take_before(&mut ops, linear.input);
                    Op::Linear(self.linear(linear, before)?)
                }
                Step::RopeStore(step) => Op::RopeStore(self.rope_store(step)?),
                Step::Rope(step) => Op::Rope(step.clone()),
                Step::Attend(attend) => {
                    Op::Attend { sinks: self.optional(attend.sinks)?, step: attend.clone() }
                }
                Step::Add(add) => Op::Add(add.clone()),
                Step::TakeRows(take) => Op::TakeRows(take.clone()),
                Step::Moe(moe) => Op::Moe(Box::new(self.moe(moe)?)),
                Step::HeadLinear(step) => {
                    Op::HeadLinear { weight: self.weight(step.weight)?, step: step.clone() }
                }
                Step::Mix(step) => Op::Mix(MixOp::new(step)),
                Step::Sparsify(step) => Op::PerRow(PerRow::Sparsify(step.clone())),
                Step::Conv(step) => Op::Conv {
                    weight: self.weight(step.weight)?,
                    bias: self.optional(step.bias)?,
                    step: step.clone(),
                },
                Step::DeltaNet(step) => Op::DeltaNet {
                    decay: self.weight(step.decay)?,
                    bias: self.weight(step.bias)?,
                    step: step.clone(),
                },
                Step::SelectiveScan(step) => Op::SelectiveScan(Box::new(SelectiveScanOp {
                    decay: self.weight(step.decay)?,
                    bias: self.weight(step.bias)?,
                    skip: self.weight(step.skip)?,
                    step: step.clone(),
                })),
            };
            ops.push(op);
        }
        Ok(ops)
    }

    /// The operation before a product, if all it does is make the product's input.
    fn take_before(&self, ops: &mut Vec<Op>, input: Slot) -> Option<PerRow> {
        let makes_input = matches!(ops.last(), Some(Op::PerRow(op)) if op.out() == input);
        match makes_input.then(|| ops.pop()) {
            Some(Some(Op::PerRow(op))) => Some(op),
            _ => None,
        }
    }

    fn weight(&self, reference: WeightRef) -> Result<WeightHandle> {
        WeightHandle::new(&self.weights[reference.0], reference)
    }

    fn optional(&self, weight: Option<WeightRef>) -> Result<Option<WeightHandle>> {
        weight.map(|weight| self.weight(weight)).transpose()
    }

    fn embed(&self, embed: &Embed) -> Result<EmbedOp> {
        Ok(EmbedOp {
            table: self.weight(embed.table)?,
            out: embed.out,
            scale: embed.scale,
            positions: self.optional(embed.positions)?,
            constant: self.optional(embed.constant)?,
        })
    }

    fn moe(&self, moe: &Moe) -> Result<MoeOp> {
        let experts = &moe.experts;
        // Gate and up may share a weight: the gate's rows come first.
        let is_shared = experts.gate == Some(experts.up);
        let matrix = |weight: WeightRef, bias, scale, place: usize| -> Result<ExpertMatrix> {
            let weight = self.weight(weight)?;
            let stride = weight.n_rows() / moe.n_experts;
            let n_rows = if is_shared && place < 2 { stride / 2 } else { stride };
            let first_row = if is_shared && place == 1 { n_rows } else { 0 };
            let (bias, scale) = (self.optional(bias)?, self.optional(scale)?);
            Ok(ExpertMatrix { weight, bias, scale, n_rows, stride, first_row })
        };
        let gate = |gate| matrix(gate, experts.gate_bias, experts.gate_scale, 0);
        Ok(MoeOp {
            router: self.weight(moe.router)?,
            router_bias: self.optional(moe.router_bias)?,
            choice_bias: self.optional(moe.choice_bias)?,
            gate: experts.gate.map(gate).transpose()?,
            up: matrix(experts.up, experts.up_bias, experts.up_scale, 1)?,
            down: matrix(experts.down, experts.down_bias, experts.down_scale, 2)?,
            step: moe.clone(),
        })
    }

    fn norm(&self, norm: &Norm) -> Result<NormOp> {
        Ok(NormOp {
            input: norm.input,
            out: norm.out,
            kind: norm.kind,
            groups: norm.groups,
            width: norm.width,
            weight: self.optional(norm.weight)?,
            bias: self.optional(norm.bias)?,
            epsilon: norm.epsilon,
        })
    }

    fn linear(&self, linear: &Linear, before: Option<PerRow>) -> Result<LinearOp> {
        let mut forms = Vec::new();
        let mut outputs: Vec<OutputOp> = Vec::with_capacity(linear.outputs.len());
        for output in &linear.outputs {
            let weight = self.weight(output.weight)?;
            let wanted = weight.format().activation;
            let form = forms.iter().position(|form| *form == wanted).unwrap_or_else(|| {
                forms.push(wanted);
                forms.len() - 1
            });
            outputs.push(OutputOp {
                weight,
                bias: self.optional(output.bias)?,
                out: output.out,
                scale: output.scale,
                accumulate: output.accumulate,
                form,
            });
        }
        let width = outputs.first().map_or(0, |output| output.weight.row_len());
        Ok(LinearOp { before, input: linear.input, width, forms, outputs })
    }

    fn rope_store(&self, step: &RopeStore) -> Result<RopeStoreOp> {
        let head_norm = |norm: &HeadNorm| -> Result<HeadNormOp> {
            Ok(HeadNormOp {
                q_weight: self.weight(norm.q_weight)?,
                k_weight: self.weight(norm.k_weight)?,
                epsilon: norm.epsilon,
                after_rope: norm.after_rope,
            })
        };
        Ok(RopeStoreOp {
            q: step.q,
            k: step.k,
            v: step.v,
            kv_layer: step.kv_layer,
            n_heads: step.n_heads,
            head_norm: step.head_norm.as_ref().map(head_norm).transpose()?,
            rope: step.rope.clone(),
            temperature: step.temperature,
        })
    }
}

/// Entries of the embedding table, which token ids are checked against.
pub(crate) fn n_vocab(program: &Program) -> usize {
    program.n_vocab().unwrap_or(0)
}
