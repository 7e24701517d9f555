//! Q2_0 weights: blocks of 64 values, 18 bytes.
//!
//! `w[i] = d * (u[i] - 1)`, with `u` 2 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 16 bytes: bits `2s..2s+2` of byte `l` are `u[4 l + s]` |
//!
//! Layout source: `block_q2_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q2_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<Q2_0>();

pub(crate) static FORMAT: Format = block32::format::<Q2_0>(&KERNELS);
