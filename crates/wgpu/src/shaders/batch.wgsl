// What varies from call to call; written by `batch.rs`, which documents the layout.

@group(1) @binding(0) var<storage, read> batch: array<u32>;

// Words before the entries of the rows, and words per row.
const HEADER: u32 = 4u;
const ROW_WORDS: u32 = 4u;

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
fn output_row(index: u32) -> u32 { return batch[batch[2] + index]; }
