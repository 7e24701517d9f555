//! Rows of sequences, put together for one run.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use realm_ir::{BatchView, SequenceView};

use crate::kv::Sequence;

/// The rows of a batch: tokens of sequences, each at the position behind what is there.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    sequences: Vec<SequenceView<'a>>,
}

impl<'a> Batch<'a> {
    /// Adds the next `tokens` of a sequence that has room for them; gives their rows.
    pub(crate) fn push(&mut self, sequence: &'a Sequence, tokens: &[u32]) -> Range<usize> {
        let first_row = self.tokens.len();
        let from = sequence.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(from as u32..(from + tokens.len()) as u32);
        self.sequences.push(SequenceView {
            first_row,
            n_rows: tokens.len(),
            pages: sequence.storage().pages(),
            state: sequence.storage().state(),
            adapters: sequence.adapters(),
        });
        first_row..self.tokens.len()
    }

    /// In the form that sessions take.
    pub(super) fn view<'b>(
        &'b self,
        output_rows: &'b [u32],
        interrupt: &'b AtomicBool,
    ) -> BatchView<'b> {
        BatchView {
            tokens: &self.tokens,
            positions: &self.positions,
            sequences: &self.sequences,
            output_rows,
            interrupt: Some(interrupt),
        }
    }
}
