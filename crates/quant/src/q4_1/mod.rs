//! Q4_1 weights: blocks of 32 values, 20 bytes.
//!
//! `w[i] = d * u[i] + m`, with `u` 4 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | `m`, f16 |
//! | 4 | 16 bytes: low nibbles are `u[0..16]`, high nibbles `u[16..32]` |
//!
//! Layout source: `block_q4_1` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q4_1;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<Q4_1>();

pub(crate) static FORMAT: Format = block32::format::<Q4_1>(&KERNELS);
