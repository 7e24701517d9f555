//! IQ2_XS weights: blocks of 256 values, 74 bytes.
//!
//! `w[i] = d / 8 * scale[i / 16] * (u[i] - 64)`, with `u` from a codebook of 512
//! times eight magnitudes.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 32 times u16, one per eight values: 9 bits of codebook index, 7 bits of signs |
//! | 66 | 8 bytes: nibbles, the low one first, are `(scale - 1) / 2` |
//!
//! The eighth sign of eight values makes the number of set ones even.
//!
//! Layout source: `block_iq2_xs` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

pub(crate) mod grid;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ2XS;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::CODEBOOK_COUNT] = codebook::kernels::<IQ2XS>();

pub(crate) static FORMAT: Format = codebook::format::<IQ2XS>(&KERNELS);
