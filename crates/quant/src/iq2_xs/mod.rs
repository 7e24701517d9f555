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
//! `scalar.rs` is the definition; rows are unpacked by it, one after another.

pub(crate) mod grid;
mod scalar;

use crate::block256::rows::Rows256;
use crate::cpu::Level;
use crate::{Format, Kernel, block256};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ2XS;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; Level::COUNT] = block256::kernels::<IQ2XS>();

pub(crate) static FORMAT: Format = block256::format::<IQ2XS>(&KERNELS);

impl Rows256 for IQ2XS {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 16;
}
