//! IQ1_M weights: blocks of 256 values, 56 bytes.
//!
//! `w[i] = d * scale[i / 16] * (grid[i] + delta[i / 8])`, with the codebook of
//! IQ1_S. To be like the other formats it is unpacked as `d / 8 * scale * (u - 16)`.
//!
//! | byte | content |
//! |---|---|
//! | 0 | 32 bytes, one per eight values: low bits of the codebook index |
//! | 32 | 32 nibbles, the low one of a byte first: 3 high bits of the index, 1 bit set where `delta` is negative |
//! | 48 | four u16, one per 64 values: 4 times 3 bits of `(scale - 1) / 2`, 4 bits of `d` |
//!
//! `d` is an f16; its lowest four bits are in the first u16.
//!
//! Layout source: `block_iq1_m` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition.

mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, codebook};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ1M;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = codebook::usual_kernels::<IQ1M>();

pub(crate) static FORMAT: Format = codebook::format::<IQ1M>(&KERNELS);
