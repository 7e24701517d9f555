//! MXFP4 weights: blocks of 32 values, 17 bytes.
//!
//! `w[i] = 2^(e - 128) * (u[i] - 16)`: floats of 4 bits (E2M1), doubled to be
//! integers, with a power of two as scale (E8M0), halved.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `e` |
//! | 1 | 16 bytes: low nibbles are the floats 0..16, high nibbles 16..32 |
//!
//! Floats: OCP Microscaling Formats (MX) Specification 1.0.
//!
//! Layout source: `block_mxfp4` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct MxFp4;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<MxFp4>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block32::packed_kernels::<MxFp4>();

pub(crate) static FORMAT: Format = block32::format::<MxFp4>(&KERNELS).with_packed(&PACKED_KERNELS);

/// What is added to the levels so that they are not negative.
pub(crate) const OFFSET: u8 = 16;

/// Twice the sixteen E2M1 floats, with [`OFFSET`] added.
pub(crate) const LEVELS: [u8; 16] = {
    const MAGNITUDES: [u8; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
    let mut levels = [0; 16];
    let mut i = 0;
    while i < 8 {
        levels[i] = OFFSET + MAGNITUDES[i];
        levels[i + 8] = OFFSET - MAGNITUDES[i];
        i += 1;
    }
    levels
};
