//! IQ2_XXS weights: blocks of 256 values, 66 bytes.
//!
//! `w[i] = d / 8 * scale[i / 32] * (u[i] - 64)`, with `u` from a codebook of 256
//! times eight magnitudes.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | eight runs of 8 bytes, one per 32 values: 4 codebook indices, then a u32: 4 times 7 bits of signs, 4 bits of `(scale - 1) / 2` |
//!
//! The eighth sign of eight values makes the number of set ones even.
//!
//! Layout source: `block_iq2_xxs` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

pub(crate) mod grid;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ2XXS;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::CODEBOOK_COUNT] = codebook::kernels::<IQ2XXS>();

pub(crate) static FORMAT: Format = codebook::format::<IQ2XXS>(&KERNELS);
