//! Q8_0 weights: blocks of 32 values, 34 bytes.
//!
//! `w[i] = d * q[i]`, with `q` 8 bits wide and signed. To be like the other
//! formats it is unpacked as `u = q + 128`.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | `q`, 32 x i8 |
//!
//! Layout source: `block_q8_0` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct Q8_0;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<Q8_0>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block32::packed_kernels::<Q8_0>();

pub(crate) static FORMAT: Format = block32::format::<Q8_0>(&KERNELS).with_packed(&PACKED_KERNELS);
