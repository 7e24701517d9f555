//! IQ4_XS weights: blocks of 256 values, 136 bytes.
//!
//! `w[i] = d * scale[i / 32] * LEVELS[n[i]]`, with the levels of IQ4_NL and `n` 4
//! bits wide.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | u16: bits `2j..2j+2` are the high bits of `scale[j] + 32` |
//! | 4 | 4 bytes: nibbles, the low one first, are the low bits of `scale[j] + 32` |
//! | 8 | eight runs of 16 bytes, one per 32 values: low nibbles are the first 16 `n`, high nibbles the others |
//!
//! Layout source: `block_iq4_xs` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ4XS;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block256::kernels::<IQ4XS>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block256::packed_kernels::<IQ4XS>();

pub(crate) static FORMAT: Format = block256::format::<IQ4XS>(&KERNELS).with_packed(&PACKED_KERNELS);
