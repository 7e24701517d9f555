//! What varies from call to call.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::adapter::AdapterUse;
use crate::error::{Error, Result};

/// The rows of one sequence in a batch.
#[derive(Clone, Copy, Debug)]
pub struct SequenceView<'a> {
    /// First row of the sequence; its rows are contiguous and their positions ascend by one.
    pub first_row: usize,
    /// Number of rows.
    pub n_rows: usize,
    /// Page table: position `p` lives in page `pages[p / page_tokens]` at `p % page_tokens`.
    /// A page that rows of the batch fall into is written to from there alone; pages that are
    /// only read may be shared.
    pub pages: &'a [u32],
    /// Where the sequence keeps its recurrent state, which no other sequence of the batch has;
    /// programs without recurrent steps ignore it. A row at position 0 starts from zeros.
    pub state: u32,
    /// What its rows add to the weights, in this order; empty for the weights alone.
    pub adapters: &'a [AdapterUse],
}

/// Tokens to run, by sequence. Rows of all sequences lie one after another.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// Token id per row. Only segment 0 reads it: may be empty for other segments.
    pub tokens: &'a [u32],
    /// Absolute position per row; its length is the number of rows.
    pub positions: &'a [u32],
    /// The sequences, in the order of their rows, covering every row once.
    pub sequences: &'a [SequenceView<'a>],
    /// Rows whose logits are wanted, ascending, each once.
    pub output_rows: &'a [u32],
    /// Set from another thread to give up before the next step with [`Error::Interrupted`].
    pub interrupt: Option<&'a AtomicBool>,
}

/// What a batch is checked against.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Most rows a session was opened for.
    pub max_rows: usize,
    /// Most output rows a session was opened for.
    pub max_outputs: usize,
    /// Entries of the embedding table.
    pub n_vocab: usize,
    /// Positions in one page.
    pub page_tokens: usize,
    /// Pages of the cache.
    pub n_pages: usize,
    /// Recurrent states; 0 for programs without.
    pub n_states: usize,
}

impl BatchView<'_> {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.positions.len()
    }

    /// Whether any sequence runs with an adapter.
    pub fn has_adapters(&self) -> bool {
        self.sequences.iter().any(|sequence| !sequence.adapters.is_empty())
    }

    /// Whether somebody asked to give up.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// Checks everything that backends index with, so that they need not, and that no two rows
    /// write to one place, so that backends may work on them at the same time.
    ///
    /// # Errors
    /// [`Error::InvalidBatch`] naming the first thing that does not fit.
    pub fn check(&self, limits: &BatchLimits) -> Result<()> {
        let rows = self.n_rows();
        let refuse = |message: String| Err(Error::InvalidBatch { message });
        if rows > limits.max_rows {
            return refuse(format!("{rows} rows, the session takes at most {}", limits.max_rows));
        }
        if self.output_rows.len() > limits.max_outputs {
            let n = self.output_rows.len();
            return refuse(format!(
                "{n} output rows, the session takes at most {}",
                limits.max_outputs
            ));
        }
        if !self.tokens.is_empty() && self.tokens.len() != rows {
            return refuse(format!("{} tokens for {rows} rows", self.tokens.len()));
        }
        if let Some(token) = self.tokens.iter().find(|t| **t as usize >= limits.n_vocab) {
            return refuse(format!("token id {token}, the vocabulary has {}", limits.n_vocab));
        }
        if let Some(row) = self.output_rows.iter().find(|r| **r as usize >= rows) {
            return refuse(format!("output row {row} of {rows} rows"));
        }
        if let Some(pair) = self.output_rows.windows(2).find(|pair| pair[0] >= pair[1]) {
            let [first, second] = [pair[0], pair[1]];
            return refuse(format!("output row {second} follows {first}, expected ascending"));
        }
        let mut next_row = 0;
        for sequence in self.sequences {
            if sequence.first_row != next_row {
                return refuse(format!(
                    "a sequence starts at row {}, expected {next_row}",
                    sequence.first_row
                ));
            }
            next_row = match next_row.checked_add(sequence.n_rows) {
                Some(end) if end <= rows => end,
                _ => return refuse(format!("sequences cover more than the {rows} rows")),
            };
            self.check_sequence(sequence, limits)?;
        }
        if next_row != rows {
            return refuse(format!("sequences cover {next_row} of {rows} rows"));
        }
        self.check_places(limits)
    }

    /// That every page and every state that the batch writes to is written to from one place.
    fn check_places(&self, limits: &BatchLimits) -> Result<()> {
        let mut pages = Vec::new();
        for sequence in self.sequences {
            let positions = &self.positions[sequence.first_row..][..sequence.n_rows];
            if let (Some(first), Some(last)) = (positions.first(), positions.last()) {
                let [first, last] = [first, last].map(|at| *at as usize / limits.page_tokens);
                pages.extend_from_slice(&sequence.pages[first..=last]);
            }
        }
        if let Some(page) = repeated(pages) {
            let message = format!("page {page} is written to from two places of the batch");
            return Err(Error::InvalidBatch { message });
        }
        if limits.n_states > 0
            && let Some(state) = repeated(self.sequences.iter().map(|s| s.state).collect())
        {
            let message = format!("state {state} belongs to two sequences of the batch");
            return Err(Error::InvalidBatch { message });
        }
        Ok(())
    }

    fn check_sequence(&self, sequence: &SequenceView<'_>, limits: &BatchLimits) -> Result<()> {
        let refuse = |message: String| Err(Error::InvalidBatch { message });
        if limits.n_states > 0 && sequence.state as usize >= limits.n_states {
            let (state, n_states) = (sequence.state, limits.n_states);
            return refuse(format!("state {state}, the session has {n_states}"));
        }
        let positions = &self.positions[sequence.first_row..][..sequence.n_rows];
        if let Some(pair) =
            positions.windows(2).find(|pair| pair[0].checked_add(1) != Some(pair[1]))
        {
            return refuse(format!(
                "position {} follows {}, expected ascending by one",
                pair[1], pair[0]
            ));
        }
        let Some(last) = positions.last() else { return Ok(()) };
        let needed = *last as usize / limits.page_tokens + 1;
        if sequence.pages.len() < needed {
            return refuse(format!(
                "position {last} needs {needed} pages, the sequence has {}",
                sequence.pages.len()
            ));
        }
        if let Some(used) = sequence.adapters.iter().find(|used| !used.scale.is_finite()) {
            return refuse(format!(
                "an adapter's scale is {}, expected a finite number",
                used.scale
            ));
        }
        if let Some(page) = sequence.pages.iter().find(|p| **p as usize >= limits.n_pages) {
            return refuse(format!("page {page}, the cache has {}", limits.n_pages));
        }
        Ok(())
    }
}

/// A number that stands twice in a list.
fn repeated(mut numbers: Vec<u32>) -> Option<u32> {
    numbers.sort_unstable();
    numbers.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        max_rows: 8,
        max_outputs: 2,
        n_vocab: 10,
        page_tokens: 4,
        n_pages: 3,
        n_states: 0,
    };

    fn refusal(batch: &BatchView<'_>) -> String {
        batch.check(&LIMITS).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_batch_that_fits_is_accepted_and_each_misfit_is_named() {
        let sequences =
            [SequenceView { first_row: 0, n_rows: 2, pages: &[2, 0], state: 0, adapters: &[] }];
        let good = BatchView {
            tokens: &[1, 9],
            positions: &[4, 5],
            sequences: &sequences,
            output_rows: &[1],
            interrupt: None,
        };
        good.check(&LIMITS).unwrap();
        assert!(refusal(&BatchView { tokens: &[1, 10], ..good }).contains("token id 10"));
        assert!(refusal(&BatchView { tokens: &[1], ..good }).contains("1 tokens for 2 rows"));
        assert!(
            refusal(&BatchView { positions: &[4, 6], ..good }).contains("position 6 follows 4")
        );
        assert!(refusal(&BatchView { positions: &[7, 8], ..good }).contains("needs 3 pages"));
        assert!(refusal(&BatchView { output_rows: &[2], ..good }).contains("output row 2"));
        assert!(refusal(&BatchView { output_rows: &[0, 1, 1], ..good }).contains("3 output rows"));
        assert!(refusal(&BatchView { sequences: &[], ..good }).contains("cover 0 of 2"));
        assert!(refusal(&BatchView { output_rows: &[1, 0], ..good }).contains("0 follows 1"));
        assert!(refusal(&BatchView { output_rows: &[1, 1], ..good }).contains("1 follows 1"));
        let stray = [SequenceView { pages: &[2, 3], ..sequences[0] }];
        assert!(refusal(&BatchView { sequences: &stray, ..good }).contains("page 3"));
        let used = [AdapterUse { adapter: std::sync::Arc::new(()), scale: f32::NAN }];
        let adapted = [SequenceView { adapters: &used, ..sequences[0] }];
        assert!(refusal(&BatchView { sequences: &adapted, ..good }).contains("scale is NaN"));
        let endless = [SequenceView { n_rows: usize::MAX, ..sequences[0] }];
        assert!(
            refusal(&BatchView { sequences: &endless, ..good }).contains("more than the 2 rows")
        );
    }

    /// Rows of two sequences behind what they have already, in these pages and states.
    fn both(pages: [&[u32]; 2], positions: &[u32], states: [u32; 2]) -> Result<()> {
        let n_rows = positions.len() / 2;
        let sequences = [0, 1].map(|at| SequenceView {
            first_row: at * n_rows,
            n_rows,
            pages: pages[at],
            state: states[at],
            adapters: &[],
        });
        let batch = BatchView {
            tokens: &[],
            positions,
            sequences: &sequences,
            output_rows: &[],
            interrupt: None,
        };
        batch.check(&BatchLimits { n_pages: 8, n_states: 2, ..LIMITS })
    }

    #[test]
    fn pages_that_are_only_read_may_be_shared_and_those_written_to_may_not() {
        // Both read page 5; what follows is written.
        both([&[5, 1], &[5, 2]], &[4, 4], [0, 1]).unwrap();
        let error = both([&[5, 1], &[5, 1]], &[4, 4], [0, 1]).unwrap_err().to_string();
        assert!(error.contains("page 1 is written to from two places"), "{error}");
        // One writes where the other does only with its last row.
        let error = both([&[5, 1], &[1, 2]], &[4, 5, 3, 4], [0, 1]).unwrap_err().to_string();
        assert!(error.contains("page 1 "), "{error}");
        both([&[5, 1], &[1, 2]], &[4, 5, 4, 5], [0, 1]).unwrap();
        // A sequence that would overwrite itself.
        let error = both([&[3, 3], &[1, 2]], &[3, 4, 3, 4], [0, 1]).unwrap_err().to_string();
        assert!(error.contains("page 3 "), "{error}");
    }

    #[test]
    fn sequences_have_recurrent_states_of_their_own_even_without_rows() {
        let error = both([&[5, 1], &[5, 2]], &[4, 4], [1, 1]).unwrap_err().to_string();
        assert!(error.contains("state 1 belongs to two sequences"), "{error}");
        assert!(both([&[0], &[0]], &[], [0, 0]).is_err());
        assert!(both([&[0], &[0]], &[], [0, 2]).unwrap_err().to_string().contains("state 2"));
        both([&[0], &[0]], &[], [0, 1]).unwrap();
    }
}
