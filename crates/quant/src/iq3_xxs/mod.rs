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
//! `scalar.rs` is the definition; rows are unpacked by it, one after another.

pub(crate) mod grid;
mod scalar;

use crate::block256::rows::Rows256;
use crate::cpu::Level;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ3XXS;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; Level::COUNT] = block256::kernels::<IQ3XXS>();

pub(crate) static FORMAT: Format = block256::format::<IQ3XXS>(&KERNELS);

impl Rows256 for IQ3XXS {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 32;
}
