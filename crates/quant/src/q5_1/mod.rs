//! Q5_1 weights: blocks of 32 values, 24 bytes.
//!
//! `w[i] = d * u[i] + m`, with `u` 5 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | `m`, f16 |
//! | 4 | u32: bit `i` is the high bit of `u[i]` |
//! | 8 | 16 bytes: low nibbles are the low bits of `u[0..16]`, high nibbles of `u[16..32]` |
//!
//! Layout source: `block_q5_1` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q5_1;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<Q5_1>();

pub(crate) static FORMAT: Format = block32::format::<Q5_1>(&KERNELS);
