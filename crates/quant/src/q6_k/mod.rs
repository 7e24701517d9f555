//! Q6_K weights: blocks of 256 values, 210 bytes.
//!
//! `w[i] = d * scale[i / 16] * (u[i] - 32)`, with `u` 6 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | two runs of 64 bytes, one per 128 values: low nibbles are the low bits of the first 64, high nibbles of the others |
//! | 128 | two runs of 32 bytes, one per 128 values: bits `2s..2s+2` of byte `l` are the high bits of `u[32 s + l]` |
//! | 192 | `scale`, 16 x i8 |
//! | 208 | `d`, f16 |
//!
//! Layout source: `block_q6_K` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q6K;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<Q6K>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block256::packed_kernels::<Q6K>();

pub(crate) static FORMAT: Format = block256::format::<Q6K>(&KERNELS).with_packed(&PACKED_KERNELS);
