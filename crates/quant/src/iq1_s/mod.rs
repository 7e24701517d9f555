//! IQ1_S weights: blocks of 256 values, 50 bytes.
//!
//! `w[i] = d * scale[i / 32] * (grid[i] + delta[i / 32])`, with `grid` -1, 0 or 1
//! from a codebook of 2048 times eight values, and `delta` 1/8 or -1/8. To be like
//! the other formats it is unpacked as `d / 8 * scale * (u - 16)`.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 32 bytes, one per eight values: low bits of the codebook index |
//! | 34 | eight u16, one per 32 values: 4 times 3 high bits of the index, 3 bits of `(scale - 1) / 2`, 1 bit set where `delta` is negative |
//!
//! Layout source: `block_iq1_s` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

pub(crate) mod grid;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ1S;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = codebook::usual_kernels::<IQ1S>();

pub(crate) static FORMAT: Format = codebook::format::<IQ1S>(&KERNELS);
