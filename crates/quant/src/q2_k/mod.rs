//! Q2_K weights: blocks of 256 values, 84 bytes.
//!
//! `w[i] = d * scale[i / 16] * u[i] - dmin * min[i / 16]`, with `u` 2 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | 16 bytes: low nibble `scale[j]`, high nibble `min[j]` |
//! | 16 | two runs of 32 bytes, one per 128 values: bits `2s..2s+2` of byte `l` are `u[32 s + l]` |
//! | 80 | `d`, f16 |
//! | 82 | `dmin`, f16 |
//!
//! Layout source: `block_q2_K` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q2K;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<Q2K>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block256::packed_kernels::<Q2K>();

pub(crate) static FORMAT: Format = block256::format::<Q2K>(&KERNELS).with_packed(&PACKED_KERNELS);
