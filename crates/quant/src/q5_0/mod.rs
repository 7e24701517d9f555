//! Q5_0 weights: blocks of 32 values, 22 bytes.
//!
//! `w[i] = d * (u[i] - 16)`, with `u` 5 bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | u32: bit `i` is the high bit of `u[i]` |
//! | 6 | 16 bytes: low nibbles are the low bits of `u[0..16]`, high nibbles of `u[16..32]` |
//!
//! Layout source: `block_q5_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q5_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::COUNT] = block32::kernels_everywhere::<Q5_0>();

pub(crate) static FORMAT: Format = block32::format::<Q5_0>(&KERNELS);
