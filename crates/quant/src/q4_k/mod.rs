//! Q4_K weights: blocks of 256 values, 144 bytes.
//!
//! `w[i] = d * scale[i / 32] * u[i] - dmin * min[i / 32]`, with `u` 4 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | `dmin`, f16 |
//! | 4 | 12 bytes: eight scales and eight minimums of 6 bits, see [`scales_and_mins`](crate::block256::scales_and_mins) |
//! | 16 | four runs of 32 bytes, one per 64 values: low nibbles are the first 32, high nibbles the others |
//!
//! Layout source: `block_q4_K` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q4K;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<Q4K>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block256::packed_kernels::<Q4K>();

pub(crate) static FORMAT: Format = block256::format::<Q4K>(&KERNELS).with_packed(&PACKED_KERNELS);
