//! A batch as the shaders read it: one array of words.
//!
//! Word 0: rows; 1: output rows; 2: word where the output rows begin; 3: unused.
//! Then four words per row: token, position, position of the last row of its
//! sequence, word where the page table of its sequence begins. Then the output
//! rows, then the page tables. `shaders/batch.wgsl` reads it.

use realm_ir::BatchView;

const HEADER: usize = 4;
const ROW_WORDS: usize = 4;

/// Packs `batch`, which has been checked, into `words`.
pub(crate) fn pack(batch: &BatchView<'_>, words: &mut Vec<u32>) {
    let n_rows = batch.n_rows();
    let outputs_at = HEADER + ROW_WORDS * n_rows;
    let mut pages_at = outputs_at + batch.output_rows.len();
    words.clear();
    words.extend([n_rows as u32, batch.output_rows.len() as u32, outputs_at as u32, 0]);
    for sequence in batch.sequences {
        let rows = sequence.first_row..sequence.first_row + sequence.n_rows;
        let positions = &batch.positions[rows.clone()];
        let last = positions.last().copied().unwrap_or(0);
        for (row, position) in rows.zip(positions) {
            let token = batch.tokens.get(row).copied().unwrap_or(0);
            words.extend([token, *position, last, pages_at as u32]);
        }
        pages_at += sequence.pages.len();
    }
    words.extend(batch.output_rows);
    for sequence in batch.sequences {
        words.extend(sequence.pages);
    }
}

/// Words of a batch of `n_rows` rows, `n_outputs` output rows and `n_pages` page entries.
pub(crate) fn n_words(n_rows: usize, n_outputs: usize, n_pages: usize) -> usize {
    HEADER + ROW_WORDS * n_rows + n_outputs + n_pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use realm_ir::SequenceView;

    #[test]
    fn every_row_knows_its_token_position_and_pages() {
        let sequences = [
            SequenceView { first_row: 0, n_rows: 2, pages: &[7], state: 0, adapters: &[] },
            SequenceView { first_row: 2, n_rows: 1, pages: &[3, 5], state: 0, adapters: &[] },
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
        assert_eq!(words[..4], [3, 2, 16, 0]);
        assert_eq!(words[4..16], [10, 0, 1, 18, 11, 1, 1, 18, 12, 20, 20, 19]);
        assert_eq!(words[16..], [1, 2, 7, 3, 5]);
        assert_eq!(words.len(), n_words(3, 2, 3));
    }
}
