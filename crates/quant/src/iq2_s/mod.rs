//! IQ2_S weights: blocks of 256 values, 82 bytes.
//!
//! `w[i] = d / 8 * scale[i / 16] * (u[i] - 64)`, with `u` from a codebook of 1024
//! times eight magnitudes.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 32 bytes, one per eight values: low bits of the codebook index |
//! | 34 | 32 bytes, one per eight values: signs, set where negative |
//! | 66 | 8 bytes: bits `2s..2s+2` of byte `l` are the high bits of index `4 l + s` |
//! | 74 | 8 bytes: nibbles, the low one first, are `(scale - 1) / 2` |
//!
//! Layout source: `block_iq2_s` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

pub(crate) mod grid;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ2S;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::CODEBOOK_COUNT] = codebook::kernels::<IQ2S>();

pub(crate) static FORMAT: Format = codebook::format::<IQ2S>(&KERNELS);
