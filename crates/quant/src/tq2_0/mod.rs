//! TQ2_0 weights: blocks of 256 values, 66 bytes.
//!
//! `w[i] = d * (u[i] - 1)`, with `u` 2 bits wide; writers use 0, 1 and 2.
//!
//! | byte | content |
//! |---|---|
//! | 0 | two runs of 32 bytes, one per 128 values: bits `2s..2s+2` of byte `l` are `u[32 s + l]` |
//! | 64 | `d`, f16 |
//!
//! Layout source: `block_tq2_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct TQ2_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<TQ2_0>();

pub(crate) static FORMAT: Format = block256::format::<TQ2_0>(&KERNELS);
