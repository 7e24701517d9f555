//! Which operands of a step may be the same slot.

use realm_ir::{Error, Result, Slot, Step};

/// Refuses a step that writes a slot which it uses for something else too, unless the step's
/// definition allows it.
///
/// # Errors
/// `Unsupported`.
pub(crate) fn check(step: &Step) -> Result<()> {
    let operands = operands(step);
    for (i, slot) in operands.written.iter().enumerate() {
        let others = operands.written[i + 1..].iter().chain(&operands.apart);
        if others.into_iter().any(|other| other == slot) {
            let (name, slot) = (operands.step, slot.0);
            let what = format!("{name}: slot {slot}, which it writes, as another operand of it");
            return Err(Error::Unsupported { what, backend: crate::NAME });
        }
    }
    Ok(())
}

/// The slots that a step uses.
struct Operands {
    step: &'static str,
    /// Those that differ from each other, since they are written.
    written: Vec<Slot>,
    /// Those that only have to differ from what is written.
    apart: Vec<Slot>,
}

fn operands(step: &Step) -> Operands {
    let (step, written, apart) = match step {
        Step::Embed(step) => ("Embed", vec![step.out], vec![]),
        Step::Norm(step) => ("Norm", vec![step.out], vec![]),
        Step::Linear(step) => {
            let outputs = step.outputs.iter().map(|output| output.out).collect();
            ("Linear", outputs, vec![step.input])
        }
        Step::RopeStore(step) => {
            let v = Some(step.v).filter(|v| *v != step.k);
            ("RopeStore", vec![step.q, step.k], v.into_iter().collect())
        }
        Step::Rope(step) => ("Rope", vec![step.heads], vec![]),
        Step::Attend(step) => ("Attend", vec![step.out], vec![step.q]),
        Step::GatedAct(step) => ("GatedAct", vec![step.out], step.up.into_iter().collect()),
        Step::Add(step) => ("Add", vec![step.out], vec![step.b]),
        Step::TakeRows(step) => ("TakeRows", vec![step.out], vec![step.input]),
        Step::Moe(step) => ("Moe", vec![step.out], vec![step.input, step.router_input]),
        Step::HeadLinear(step) => ("HeadLinear", vec![step.out], vec![step.input]),
        Step::Mix(step) => {
            // The factors of a row are held while its values are written.
            let written = step.outputs.iter().chain([&step.weights]).copied().collect();
            let inputs = step.inputs.iter().filter(|input| !step.outputs.contains(input));
            ("Mix", written, inputs.copied().collect())
        }
        Step::Sparsify(step) => ("Sparsify", vec![step.values], vec![]),
        Step::Conv(step) => ("Conv", vec![step.out], vec![step.input]),
        Step::DeltaNet(step) => ("DeltaNet", vec![step.out], vec![step.qkv, step.alpha, step.beta]),
        Step::SelectiveScan(step) => {
            ("SelectiveScan", vec![step.out], vec![step.x, step.dt, step.b, step.c])
        }
    };
    Operands { step, written, apart }
}
