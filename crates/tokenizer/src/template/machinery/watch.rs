//! The calls that are put between a template's instructions. They also give an error
//! where Python does and the engine does not: iterating over none.

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::Value;

use super::NAME;
use crate::template::{limits, operators};

/// A copy of `instructions` with the calls put in.
pub(super) fn watched<'s>(instructions: &Instructions<'s>, source: &'s str) -> Instructions<'s> {
    let all = || (0..).map_while(|i| instructions.get(i));
    let mut copy = Instructions::new(NAME, source);
    copy.add(Instruction::CallFunction(limits::BEGIN, Some(0)));
    copy.add(Instruction::DiscardTop);
    // Where each instruction, with what is put before it, begins in the copy.
    let mut begin = 2;
    let mut starts = vec![begin];
    for instruction in all() {
        begin += expand(instruction).len() as u32;
        starts.push(begin);
    }
    for (i, instruction) in (0..).zip(all()) {
        for mut part in expand(instruction) {
            if let Some(target) = target(&mut part) {
                *target = starts[*target as usize];
            }
            match instructions.get_line(i) {
                Some(line) => copy.add_with_line(part, u16::try_from(line).unwrap_or(u16::MAX)),
                None => copy.add(part),
            };
        }
    }
    copy
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

/// What an instruction becomes.
///
/// Every one is named: an instruction of a later release does not compile until somebody
/// has decided what it may cost, and whether [`target`] has to know it.
fn expand<'s>(instruction: &Instruction<'s>) -> Vec<Instruction<'s>> {
    use Instruction as I;
    let call = |name| I::CallFunction(name, Some(1));
    let same = instruction.clone();
    match instruction {
        // They make a value.
        I::Add
        | I::BuildMap(_)
        | I::BuildList(_)
        | I::BuildTuple(_)
        | I::CallFunction(..)
        | I::CallObject(_)
        | I::EndCapture => vec![same, call(limits::BUILT)],
        I::Mul => vec![I::CallFunction(limits::MULTIPLY, Some(2))],
        I::Rem => vec![I::CallFunction(operators::REMAINDER, Some(2)), call(limits::BUILT)],
        I::StringConcat => vec![I::CallFunction(operators::CONCAT, Some(2)), call(limits::BUILT)],
        I::Slice => vec![I::CallFunction(operators::SLICE, Some(4)), call(limits::BUILT)],
        // Methods count what they look at, but for that of a loop which compares.
        I::CallMethod("changed", Some(n)) => {
            [weighed(usize::from(*n)), vec![same, call(limits::BUILT)]].concat()
        }
        // Of no values, which the engine divides by.
        I::CallMethod("cycle", Some(1)) => vec![call(limits::NO_CYCLE)],
        I::CallMethod("changed" | "cycle", None) => vec![call(limits::NO_SPREAD)],
        I::CallMethod(..) => vec![same, call(limits::BUILT)],
        // They compare or search.
        I::Eq | I::Ne | I::Gt | I::Gte | I::Lt | I::Lte | I::In | I::CompareAndPreserve(_) => {
            [weighed(2), vec![same]].concat()
        }
        I::SetAttr(_) => vec![I::Swap, call(limits::KEPT), I::Swap, same],
        I::PushLoop(_) => vec![call(limits::ITERABLE), same],
        // In every loop and around every decision: a look at the clock.
        I::StoreLocal(_) | I::JumpIfFalse(_) => {
            vec![I::CallFunction(limits::TICK, Some(0)), I::DiscardTop, same]
        }
        // Written through the formatter, which counts.
        I::EmitRaw(text) => vec![I::LoadConst(Value::from(*text)), I::Emit],
        I::Emit => vec![same],
        // Filters and tests count what they look at and what they make.
        I::ApplyFilter(..) | I::PerformTest(..) => vec![same],
        // Numbers.
        I::Sub | I::Div | I::IntDiv | I::Pow | I::Neg => vec![same],
        // They take values apart or put them elsewhere, at most all that there is of one.
        I::Lookup(_)
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
        | I::Swap => vec![same],
        // They go elsewhere, or begin and end something.
        I::PushWith
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
        | I::GetClosure => vec![same],
    }
}

/// Counts the `n` values on top of the stack before something looks at all that is in them.
fn weighed<'s>(n: usize) -> Vec<Instruction<'s>> {
    let weigh = Instruction::CallFunction(limits::WEIGHED, Some(1));
    vec![Instruction::BuildList(Some(n)), weigh, Instruction::UnpackList(n)]
}
