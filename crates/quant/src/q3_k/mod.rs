//! Q3_K weights: blocks of 256 values, 110 bytes.
//!
//! `w[i] = d * scale[i / 16] * (u[i] - 4)`, with `u` 3 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | 32 bytes: bit `i / 32` of byte `i % 32` is the high bit of `u[i]` |
//! | 32 | two runs of 32 bytes, one per 128 values: bits `2s..2s+2` of byte `l` are the low bits of `u[32 s + l]` |
//! | 96 | 8 bytes: low nibbles are the low bits of `scale[0..8] + 32`, high nibbles of `scale[8..16] + 32` |
//! | 104 | 4 bytes: bits `2s..2s+2` of byte `l` are the high bits of `scale[4 s + l] + 32` |
//! | 108 | `d`, f16 |
//!
//! Layout source: `block_q3_K` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q3K;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<Q3K>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block256::packed_kernels::<Q3K>();

pub(crate) static FORMAT: Format = block256::format::<Q3K>(&KERNELS).with_packed(&PACKED_KERNELS);
