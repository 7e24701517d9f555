//! Which slots a step works on.

use crate::operands::Slot;
use crate::step::Step;

impl Step {
    /// Every slot that the step reads or writes.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Step::Embed(step) => vec![step.out],
            Step::Norm(step) => vec![step.input, step.out],
            Step::Linear(step) => {
                let outs = step.outputs.iter().map(|output| output.out);
                std::iter::once(step.input).chain(outs).collect()
            }
            Step::RopeStore(step) => vec![step.q, step.k, step.v],
            Step::Rope(step) => vec![step.heads],
            Step::Attend(step) => vec![step.q, step.out],
            Step::GatedAct(step) => [step.gate, step.out].into_iter().chain(step.up).collect(),
            Step::Add(step) => vec![step.a, step.b, step.out],
            Step::TakeRows(step) => vec![step.input, step.out],
            Step::Moe(step) => vec![step.input, step.router_input, step.out],
            Step::HeadLinear(step) => vec![step.input, step.out],
            Step::Mix(step) => {
                let slots = step.inputs.iter().chain(&step.outputs).copied();
                slots.chain([step.weights]).collect()
            }
            Step::Sparsify(step) => vec![step.values],
            Step::Conv(step) => vec![step.input, step.out],
            Step::DeltaNet(step) => vec![step.qkv, step.alpha, step.beta, step.out],
            Step::SelectiveScan(step) => vec![step.x, step.dt, step.b, step.c, step.out],
        }
    }
}
