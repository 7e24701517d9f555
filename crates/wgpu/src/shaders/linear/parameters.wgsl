// What a product needs to know beside its operands; written by `product/parameters.rs`.

struct Parameters {
    // Of the weight: values and groups of 32 in a row, and where its planes begin.
    width: u32,
    n_groups: u32,
    high_at: u32,
    scales_at: u32,
    blocks_at: u32,
    // Columns that one matrix makes, rows of the weight that are one matrix, the first
    // of them, or of the buffer, that is used.
    n_columns: u32,
    matrix_rows: u32,
    first_row: u32,
    // Matrices in this part of the weight, and the number of the first.
    n_matrices: u32,
    first_matrix: u32,
    // Values from row to row, and from matrix to matrix where each has its own.
    in_stride: u32,
    out_stride: u32,
    in_step: u32,
    out_step: u32,
    // Where in a row of the result the first column is.
    first_column: u32,
    // Rows of the result per row of the input.
    outputs_per_input: u32,
    scale: f32,
    flags: u32,
    // Of matrices side by side: where the columns of the second and third begin, and values from
    // row to row of their results.
    second_at: u32,
    third_at: u32,
    second_stride: u32,
    third_stride: u32,
}

const HAS_BIAS: u32 = 1u;
const ACCUMULATE: u32 = 2u;
const OF_OUTPUTS: u32 = 4u;
const HAS_MATRIX_SCALE: u32 = 8u;
const WEIGH_INPUT: u32 = 16u;

fn has(flag: u32) -> bool { return (parameters.flags & flag) != 0u; }
