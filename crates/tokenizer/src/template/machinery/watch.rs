//! The calls that are put between a template's instructions. They also give an error
//! where Python does and the engine does not: iterating over none.

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::Value;

use super::NAME;
use crate::template::{limits, operators};

/// A copy of `instructions` with the calls put in.
pub(super) fn watched<'s>(instructions: &Instructions<'s>, source: &'s str) -> Instructions<'s> {
    let mut parts = vec![call(limits::BEGIN, 0), Instruction::DiscardTop];
    // Where each instruction, with what is put before it, begins among the parts.
    let mut starts = vec![2];
    for instruction in (0..).map_while(|i| instructions.get(i)) {
        expand(instruction, &mut parts);
        starts.push(parts.len() as u32);
    }
    let mut copy = Instructions::new(NAME, source);
    let mut expanded = 0;
    for (i, mut part) in (0..).zip(parts) {
        if let Some(target) = target(&mut part) {
            *target = starts[*target as usize];
        }
        if starts.get(expanded as usize + 1).is_some_and(|next| i >= *next) {
            expanded += 1;
        }
        match instructions.get_line(expanded) {
            Some(line) => copy.add_with_line(part, u16::try_from(line).unwrap_or(u16::MAX)),
            None => copy.add(part),
        };
    }
    copy
}

fn call<'s>(function: &'s str, n_arguments: u16) -> Instruction<'s> {
    Instruction::CallFunction(function, Some(n_arguments))
}

/// An instruction that goes through the two values it takes, which are counted before. As
/// they are unpacked, the last one is first.
fn weighed<'s>(instruction: &Instruction<'s>) -> [Instruction<'s>; 5] {
    [
        Instruction::Swap,
        Instruction::BuildList(Some(2)),
        call(limits::WEIGHED, 1),
        Instruction::UnpackList(2),
        instruction.clone(),
    ]
}

/// Where an instruction may go on.
fn target<'i>(instruction: &'i mut Instruction<'_>) -> Option<&'i mut u32> {
    match instruction {
        Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) => Some(target),
        _ => None,
    }
}

/// Appends what an instruction becomes.
///
/// Every one is named: an instruction of a later release does not compile until somebody
/// has decided what it may cost, and whether [`target`] has to know it.
fn expand<'s>(instruction: &Instruction<'s>, out: &mut Vec<Instruction<'s>>) {
    use Instruction as I;
    match instruction {
        I::Mul => return out.push(call(limits::MULTIPLY, 2)),
        I::Rem => out.push(call(operators::REMAINDER, 2)),
        I::StringConcat => out.push(call(operators::CONCAT, 2)),
        I::Slice => out.push(call(operators::SLICE, 4)),
        // Of no values, which the engine divides by.
        I::CallMethod("cycle", Some(1)) => return out.push(call(limits::NO_CYCLE, 1)),
        I::CallMethod("cycle", None) => {
            return out.extend([I::DiscardTop, call(limits::NO_CYCLE, 1)]);
        }
        // They make a value. Methods count what they look at themselves.
        I::BuildMap(_)
        | I::BuildList(_)
        | I::BuildTuple(_)
        | I::CallFunction(..)
        | I::CallMethod(..)
        | I::CallObject(_)
        | I::EndCapture => out.push(instruction.clone()),
        // It goes through both, and makes a value.
        I::Add => out.extend(weighed(instruction)),
        // They compare or search.
        I::Eq | I::Ne | I::Gt | I::Gte | I::Lt | I::Lte | I::In | I::CompareAndPreserve(_) => {
            return out.extend(weighed(instruction));
        }
        I::SetAttr(_) => {
            out.extend([I::Swap, call(limits::KEPT, 1), I::Swap, instruction.clone()]);
            return;
        }
        I::PushLoop(_) => {
            out.extend([call(limits::ITERABLE, 1), instruction.clone()]);
            return;
        }
        // In every loop and around every decision: a look at the clock.
        I::StoreLocal(_) | I::JumpIfFalse(_) => {
            out.extend([call(limits::TICK, 0), I::DiscardTop, instruction.clone()]);
            return;
        }
        // Written through the formatter, which counts.
        I::EmitRaw(text) => {
            out.extend([I::LoadConst(Value::from(*text)), I::Emit]);
            return;
        }
        // The formatter, filters and tests count what they look at and what they make.
        I::Emit | I::ApplyFilter(..) | I::PerformTest(..)
        // Numbers.
        | I::Sub | I::Div | I::IntDiv | I::Pow | I::Neg
        // They take values apart or put them elsewhere, at most all that there is of one.
        | I::Lookup(_)
        | I::GetAttr(_)
        | I::GetItem
        | I::LoadConst(_)
        | I::BuildKwargs(_)
        | I::MergeKwargs(_)
        | I::UnpackList(_)
        | I::UnpackLists(_)
        | I::Not
        | I::IsUndefined
        | I::DupTop
        | I::DiscardTop
        | I::Swap
        // They go elsewhere, or begin and end something.
        | I::PushWith
        | I::Iterate(_)
        | I::PushDidNotIterate
        | I::PopFrame
        | I::PopLoopFrame
        | I::Jump(_)
        | I::JumpIfFalseOrPop(_)
        | I::JumpIfTrueOrPop(_)
        | I::PushAutoEscape
        | I::PopAutoEscape
        | I::BeginCapture(_)
        | I::FastRecurse
        | I::BuildMacro(..)
        | I::Return
        | I::Enclose(_)
        | I::GetClosure => return out.push(instruction.clone()),
    }
    out.push(call(limits::BUILT, 1));
}
