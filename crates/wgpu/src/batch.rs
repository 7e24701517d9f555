//! A batch as the shaders read it: one array of words.
//!
//! Sequences without rows are left out. Word 0: rows; 1: output rows; 2: word where the output rows begin; 3: word where the
//! sequences begin. Then five words per row: token, position, position of the last row of
//! its sequence, word where the page table of its sequence begins, index of its sequence.
//! Then the output rows, then three words per sequence: its first row, its number of rows,
//! its recurrent state. Then the page tables. `shaders/batch.wgsl` reads it.

use realm_ir::{BatchView, SequenceView};

const HEADER: usize = 4;
const ROW_WORDS: usize = 5;
const SEQUENCE_WORDS: usize = 3;

/// The sequences of a batch that have rows.
pub(crate) fn sequences<'a>(
    batch: &BatchView<'a>,
) -> impl Iterator<Item = &'a SequenceView<'a>> + use<'a> {
    batch.sequences.iter().filter(|sequence| sequence.n_rows > 0)
}

/// Packs `batch`, which has been checked, into `words`.
pub(crate) fn pack(batch: &BatchView<'_>, words: &mut Vec<u32>) {
    let n_rows = batch.n_rows();
    let outputs_at = HEADER + ROW_WORDS * n_rows;
    let sequences_at = outputs_at + batch.output_rows.len();
    let mut pages_at = sequences_at + SEQUENCE_WORDS * sequences(batch).count();
    words.clear();
    let header = [n_rows, batch.output_rows.len(), outputs_at, sequences_at];
    words.extend(header.map(|word| word as u32));
    for (index, sequence) in sequences(batch).enumerate() {
        let rows = sequence.first_row..sequence.first_row + sequence.n_rows;
        let positions = &batch.positions[rows.clone()];
        let last = positions.last().copied().unwrap_or(0);
        for (row, position) in rows.zip(positions) {
            let token = batch.tokens.get(row).copied().unwrap_or(0);
            words.extend([token, *position, last, pages_at as u32, index as u32]);
        }
        pages_at += sequence.pages.len();
    }
    words.extend(batch.output_rows);
    for sequence in sequences(batch) {
        words.extend([sequence.first_row as u32, sequence.n_rows as u32, sequence.state]);
    }
    for sequence in sequences(batch) {
        words.extend(sequence.pages);
    }
}

/// Words of a batch of `n_rows` rows, each a sequence of its own, `n_outputs` output rows
/// and `n_pages` page entries.
pub(crate) fn n_words(n_rows: usize, n_outputs: usize, n_pages: usize) -> usize {
    (HEADER + (ROW_WORDS + SEQUENCE_WORDS) * n_rows + n_outputs).saturating_add(n_pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use realm_ir::SequenceView;

    #[test]
    fn every_row_knows_its_token_position_and_pages() {
        let sequences = [
            SequenceView { first_row: 0, n_rows: 2, pages: &[7], state: 5, adapters: &[] },
            SequenceView { first_row: 2, n_rows: 0, pages: &[9], state: 9, adapters: &[] },
            SequenceView { first_row: 2, n_rows: 1, pages: &[3, 5], state: 4, adapters: &[] },
        ];
        let batch = BatchView {
            tokens: &[10, 11, 12],
            positions: &[0, 1, 20],
            sequences: &sequences,
            output_rows: &[1, 2],
            interrupt: None,
        };
        let mut words = Vec::new();
        pack(&batch, &mut words);
        assert_eq!(words[..4], [3, 2, 19, 21]);
        assert_eq!(words[4..9], [10, 0, 1, 27, 0]);
        assert_eq!(words[9..14], [11, 1, 1, 27, 0]);
        assert_eq!(words[14..19], [12, 20, 20, 28, 1]);
        assert_eq!(words[19..27], [1, 2, 0, 2, 5, 2, 1, 4]);
        assert_eq!(words[27..], [7, 3, 5]);
        assert!(words.len() <= n_words(3, 2, 3));
    }
}
