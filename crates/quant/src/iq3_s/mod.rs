//! IQ3_S weights: blocks of 256 values, 110 bytes.
//!
//! `w[i] = d * scale[i / 32] * (u[i] - 16)`, with `u` from a codebook of 512 times
//! four magnitudes.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 64 bytes, one per four values: low bits of the codebook index |
//! | 66 | 8 bytes: bit `s` of byte `l` is the high bit of index `8 l + s` |
//! | 74 | 32 bytes, one per eight values: signs, set where negative |
//! | 106 | 4 bytes: nibbles, the low one first, are `(scale - 1) / 2` |
//!
//! Layout source: `block_iq3_s` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

pub(crate) mod grid;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ3S;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::CODEBOOK_COUNT] = codebook::kernels::<IQ3S>();

pub(crate) static FORMAT: Format = codebook::format::<IQ3S>(&KERNELS);
