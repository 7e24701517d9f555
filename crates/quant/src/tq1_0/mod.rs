//! TQ1_0 weights: blocks of 256 values, 54 bytes.
//!
//! `w[i] = d * (u[i] - 1)`, with `u` 0, 1 or 2: digits of numbers in base 3.
//!
//! A byte `b` is a fraction `b / 256`, whose first digits in base 3 are the values.
//! Multiplied by 3, what exceeds 256 is the first digit, and the rest is the
//! fraction that holds the others.
//!
//! | byte | content |
//! |---|---|
//! | 0 | 32 bytes: digit `s` of byte `l` is `u[32 s + l]`, five digits |
//! | 32 | 16 bytes: digit `s` of byte `l` is `u[160 + 16 s + l]`, five digits |
//! | 48 | 4 bytes: digit `s` of byte `l` is `u[240 + 4 s + l]`, four digits |
//! | 52 | `d`, f16 |
//!
//! Layout source: `block_tq1_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct TQ1_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<TQ1_0>();

pub(crate) static FORMAT: Format = block256::format::<TQ1_0>(&KERNELS);
