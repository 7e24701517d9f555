//! What a model takes of memory beside what it may take.

use realm_ir::MemoryPlan;

use crate::error::{Error, Result};

/// That a model which takes `memory` is within `limit` bytes; `None` is no limit.
///
/// # Errors
/// `OutOfMemory`, with what each part needs and what there may be.
pub(crate) fn require(memory: &MemoryPlan, limit: Option<u64>) -> Result<()> {
    let (needed, limit) = (memory.total(), limit.unwrap_or(u64::MAX));
    if needed <= limit {
        return Ok(());
    }
    let parts = [
        (memory.weights, "weights"),
        (memory.copies, "packed copies"),
        (memory.kv, "KV cache"),
        (memory.states, "recurrent states"),
        (memory.slots, "activations and scratch memory"),
    ];
    let parts = parts.into_iter().filter(|(bytes, _)| *bytes > 0);
    let parts: Vec<_> = parts.map(|(bytes, what)| format!("{bytes} of {what}")).collect();
    Err(Error::OutOfMemory {
        message: format!(
            "the model needs {needed} bytes ({}), the memory limit leaves {limit}; load with a \
             smaller contextLength or maxSequences",
            parts.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_just_fits_is_accepted_and_one_byte_more_is_refused_with_every_number() {
        let mut memory = MemoryPlan { weights: 100, kv: 20, ..MemoryPlan::default() };
        require(&memory, Some(120)).unwrap();
        let message = require(&memory, Some(119)).unwrap_err().to_string();
        assert!(message.contains("(100 of weights, 20 of KV cache), "), "{message}");
        memory = MemoryPlan { copies: 31, states: 7, slots: 5, ..memory };
        let message = require(&memory, Some(162)).unwrap_err().to_string();
        for part in [
            "needs 163 bytes",
            "100 of weights",
            "31 of packed copies",
            "20 of KV cache",
            "7 of recurrent states",
            "5 of activations and scratch",
            "leaves 162",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn without_a_limit_everything_fits() {
        let memory = MemoryPlan { weights: u64::MAX, kv: u64::MAX, ..MemoryPlan::default() };
        require(&memory, None).unwrap();
    }
}
