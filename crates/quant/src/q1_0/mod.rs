//! Q1_0 weights: blocks of 128 values, 18 bytes.
//!
//! `w[i] = d * (u[i] - 1)`, with `u` 0 or 2.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 16 bytes: bit `i % 8` of byte `i / 8` is set when `u[i]` is 2 |
//!
//! Layout source: `block_q1_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q1_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<Q1_0>();

pub(crate) static FORMAT: Format = block32::format::<Q1_0>(&KERNELS);
