//! IQ4_NL weights: blocks of 32 values, 18 bytes.
//!
//! `w[i] = d * LEVELS[n[i]]`, with `n` 4 bits wide. To be like the other formats
//! it is unpacked as `u = LEVELS[n] + 128`.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `d`, f16 |
//! | 2 | 16 bytes: low nibbles are `n[0..16]`, high nibbles `n[16..32]` |
//!
//! Layout source: `block_iq4_nl` in ggml `src/ggml-common.h`.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

mod rows;
mod scalar;

use crate::cpu::InstructionSet;
use crate::{Format, Kernel, block32};

/// The format; its definition is in `scalar.rs`.
pub(crate) struct IQ4NL;

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = block32::kernels::<IQ4NL>();

/// The same for interleaved rows.
static PACKED_KERNELS: [Kernel; InstructionSet::COUNT - 1] = block32::packed_kernels::<IQ4NL>();

pub(crate) static FORMAT: Format = block32::format::<IQ4NL>(&KERNELS).with_packed(&PACKED_KERNELS);

/// What is added to the levels so that they are not negative.
pub(crate) const OFFSET: u8 = 128;

/// The sixteen levels, with [`OFFSET`] added.
pub(crate) const LEVELS: [u8; 16] = levels(OFFSET);

/// The sixteen levels as signed bytes, exclusively or-ed with `sign_bit`.
///
/// Source: `kvalues_iq4nl` in ggml `src/ggml-common.h`.
pub(crate) const fn levels(sign_bit: u8) -> [u8; 16] {
    const SIGNED: [i8; 16] =
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
    let mut levels = [0; 16];
    let mut i = 0;
    while i < 16 {
        levels[i] = SIGNED[i] as u8 ^ sign_bit;
        i += 1;
    }
    levels
}
