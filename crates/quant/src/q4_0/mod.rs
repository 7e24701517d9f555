//! Q4_0 weights: blocks of 32 values, 18 bytes.
//!
//! `w[i] = d * (u[i] - 8)`, with `u` 4 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 16 bytes: low nibbles are `u[0..16]`, high nibbles `u[16..32]` |
//!
//! Layout source: `block_q4_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q4_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<Q4_0>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block32::packed_kernels::<Q4_0>();

pub(crate) static FORMAT: Format = block32::format::<Q4_0>(&KERNELS).with_packed(&PACKED_KERNELS);
