//! What a model needs of memory beside what it may take.

use crate::error::{Error, Result};

/// Bytes of a model, of which the copies are yet to be decided on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    limit: u64,
    weights: u64,
    kv_cache: u64,
}

impl Budget {
    /// # Errors
    /// `OutOfMemory` when weights and KV cache alone are above the limit; `None` is none.
    pub(crate) fn new(limit: Option<u64>, weights: u64, kv_cache: u64) -> Result<Self> {
        let budget = Budget { limit: limit.unwrap_or(u64::MAX), weights, kv_cache };
        budget.require(0)?;
        Ok(budget)
    }

    /// That copies of so many bytes find room as well.
    ///
    /// # Errors
    /// `OutOfMemory`, with what is needed and what there may be.
    pub(crate) fn require(&self, copies: u64) -> Result<()> {
        let Budget { limit, weights, kv_cache } = *self;
        let needed = weights.saturating_add(kv_cache).saturating_add(copies);
        if needed <= limit {
            return Ok(());
        }
        let copies = match copies {
            0 => String::new(),
            copies => format!(", {copies} of packed copies"),
        };
        Err(Error::OutOfMemory {
            message: format!(
                "the model needs {needed} bytes ({weights} of weights, {kv_cache} of KV cache{copies}), \
                 the memory limit leaves {limit}; load with a smaller contextLength or maxSequences"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_just_fits_is_accepted_and_one_byte_more_is_refused_with_both_numbers() {
        let budget = Budget::new(Some(150), 100, 20).unwrap();
        budget.require(30).unwrap();
        let message = budget.require(31).unwrap_err().to_string();
        for part in ["needs 151 bytes", "100 of weights", "20 of KV cache", "31 of", "leaves 150"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(matches!(Budget::new(Some(119), 100, 20), Err(Error::OutOfMemory { .. })));
    }

    #[test]
    fn without_a_limit_everything_fits() {
        Budget::new(None, u64::MAX, u64::MAX).unwrap().require(u64::MAX).unwrap();
    }
}
