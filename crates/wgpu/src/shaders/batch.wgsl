// What varies from call to call; written by `batch.rs`, which documents the layout.

@group(1) @binding(0) var<storage, read> batch: array<u32>;

// Words before the entries of the rows, and words per row.
const HEADER: u32 = 4u;
const ROW_WORDS: u32 = 5u;
const SEQUENCE_WORDS: u32 = 3u;

fn n_batch_rows() -> u32 { return batch[0]; }
fn n_output_rows() -> u32 { return batch[1]; }
fn token(row: u32) -> u32 { return batch[HEADER + ROW_WORDS * row]; }
fn position(row: u32) -> u32 { return batch[HEADER + ROW_WORDS * row + 1u]; }
// Position of the last row of the same sequence.
fn last_position(row: u32) -> u32 { return batch[HEADER + ROW_WORDS * row + 2u]; }
// Page of the row's sequence that holds `position / page_tokens == index`.
fn page(row: u32, index: u32) -> u32 {
    return batch[batch[HEADER + ROW_WORDS * row + 3u] + index];
}
// Index of the row's sequence.
fn sequence(row: u32) -> u32 { return batch[HEADER + ROW_WORDS * row + 4u]; }
fn first_row(own_sequence: u32) -> u32 { return batch[batch[3] + SEQUENCE_WORDS * own_sequence]; }
fn sequence_rows(own_sequence: u32) -> u32 {
    return batch[batch[3] + SEQUENCE_WORDS * own_sequence + 1u];
}
// Index of the sequence's recurrent states.
fn state_of(own_sequence: u32) -> u32 {
    return batch[batch[3] + SEQUENCE_WORDS * own_sequence + 2u];
}
fn output_row(index: u32) -> u32 { return batch[batch[2] + index]; }
