//! IQ3_XXS weights: blocks of 256 values, 98 bytes.
//!
//! `w[i] = d / 4 * scale[i / 32] * (u[i] - 64)`, with `u` from a codebook of 256
//! times four magnitudes.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 64 codebook indices, one per four values |
//! | 66 | eight u32, one per 32 values: 4 times 7 bits of signs, 4 bits of `(scale - 1) / 2` |
//!
//! The eighth sign of eight values makes the number of set ones even.
//!
//! Layout source: `block_iq3_xxs` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

pub(crate) mod grid;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ3XXS;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::CODEBOOK_COUNT] = codebook::kernels::<IQ3XXS>();

pub(crate) static FORMAT: Format = codebook::format::<IQ3XXS>(&KERNELS);
