//! Recurrent states: for each sequence, the values of every recurrent step.

use realm_ir::{Error, Result, StateLayout};

use crate::zeroed::Zeroed;

/// The states of one session, one after another.
pub(crate) struct States {
    values: Zeroed<f32>,
    /// First value of each step within a state, and the end of the last.
    offsets: Vec<usize>,
}

impl States {
    /// # Errors
    /// `OutOfMemory` when the size overflows or is not to be had.
    pub fn new(layout: &StateLayout) -> Result<Self> {
        let mut offsets = vec![0];
        for width in &layout.widths {
            offsets.push(offsets[offsets.len() - 1] + width);
        }
        let len = offsets[layout.widths.len()].saturating_mul(layout.n_states);
        let values = Zeroed::new(len).ok_or_else(|| Error::OutOfMemory {
            what: "recurrent states".to_owned(),
            bytes: len.saturating_mul(4),
        })?;
        Ok(States { values, offsets })
    }

    /// Where a step's values of a state are.
    pub fn range(&self, state: u32, step: usize) -> std::ops::Range<usize> {
        let first = state as usize * self.len();
        first + self.offsets[step]..first + self.offsets[step + 1]
    }

    /// All values, to be written.
    pub fn values(&mut self) -> &mut [f32] {
        self.values.as_mut_slice()
    }

    /// Copies one state to another.
    pub fn copy(&mut self, from: usize, to: usize) {
        let len = self.len();
        self.values.as_mut_slice().copy_within(from * len..(from + 1) * len, to * len);
    }

    /// Values of one state.
    fn len(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }
}
