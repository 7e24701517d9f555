//! Blocks of 256 values from a codebook: most of the IQ formats.
//!
//! `w[i] = d * FACTOR * scale[i / 16] * (u[i] - OFFSET)`. An entry of the codebook is
//! eight or four values; each value has a bit of sign besides, and `u` is
//! `OFFSET + entry` or `OFFSET - entry`, in some formats `entry + 1` or `entry - 1`.
//!
//! A format's definition says where indices, signs and scales are ([`Parts`]).
//! With that its blocks are like the others of 256 values.

mod grid;
pub(crate) mod rows;

use half::f16;
use realm_gguf::TensorType;

use crate::block256::{self, Block, Block256, GROUPS, LEN};
use crate::cpu::InstructionSet;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512Vbmi;
use crate::{Format, Kernel};
pub(crate) use grid::{Entry, Numbers, codebook, expand, numbers};

/// Runs of eight values in a block, one byte of signs each.
pub(crate) const EIGHTS: usize = LEN / 8;

/// The definition of one format.
pub(crate) trait Codebook {
    const TY: TensorType;
    /// What is subtracted from every `u`.
    const OFFSET: u8;
    /// What `d` is multiplied with; a power of two.
    const FACTOR: f32;
    /// Whether `u` is `entry ± 1` instead of `OFFSET ± entry`.
    const SHIFTED: bool;
    /// Values that share a scale: 16 or 32.
    const SCALE_LEN: usize;
    /// Four or eight values.
    type Entry: Entry;
    /// The codebook as numbers.
    type Numbers: Numbers;
    /// What the digits of the numbers are places in.
    const VALUES: &'static [u8];

    /// The values of all entries; a power of two of them.
    ///
    /// Implementations are `#[inline(always)]`.
    fn grid() -> &'static [Self::Entry];

    /// All entries as numbers.
    ///
    /// Implementations are `#[inline(always)]`.
    fn numbers() -> &'static Self::Numbers;

    /// Takes a block apart, which is `TY.block_bytes()` long.
    ///
    /// Implementations are `#[inline(always)]`, and written so that the compiler
    /// makes vectors of their loops.
    fn parts(bytes: &[u8]) -> Parts<Self::Entry>;
}

/// What is in one block, each thing by itself.
pub(crate) struct Parts<E: Entry> {
    /// Of the codebook, one per entry; bits beyond its size are ignored.
    pub indices: E::Indices,
    /// A bit per value, the first one lowest, set where it is negative.
    pub signs: [u8; EIGHTS],
    /// Integer scale of each 16 values, at most 31.
    pub scales: [i16; GROUPS],
    /// Bits of the f16 `d`.
    pub d: u16,
}

/// The kernels of `F` that read entries one by one, fastest first; the last one is the
/// definition. All there are for a codebook that is too large for registers.
pub(crate) const fn usual_kernels<F: Codebook>() -> [Kernel; InstructionSet::LEAN_COUNT] {
    block256::kernels_by::<F, rows::FormatRows<F>>()
}

/// The kernels of `F`, fastest first; the last one is the definition.
pub(crate) const fn kernels<F: Codebook>() -> [Kernel; InstructionSet::CODEBOOK_COUNT] {
    let usual = usual_kernels::<F>();
    #[cfg(not(target_arch = "x86_64"))]
    {
        usual
    }
    #[cfg(target_arch = "x86_64")]
    {
        let first = crate::rows::kernel::<Avx512Vbmi, rows::FormatRows<F>>(F::TY);
        let mut kernels = [first; InstructionSet::CODEBOOK_COUNT];
        let (_, rest) = kernels.split_at_mut(1);
        rest.copy_from_slice(&usual);
        kernels
    }
}

/// The format entry of `F`.
pub(crate) const fn format<F: Codebook>(kernels: &'static [Kernel]) -> Format {
    block256::format::<F>(kernels)
}

impl<F: Codebook> Block256 for F {
    const TY: TensorType = F::TY;
    const OFFSET: u8 = F::OFFSET;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let parts = F::parts(bytes);
        let grid = F::grid();
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let entry = F::Entry::eight(grid, &parts.indices, i);
            let (middle, distance) = around::<F, u64>(entry, |byte| u64::from_le_bytes([byte; 8]));
            let negative = grid::MASKS[usize::from(parts.signs[i])];
            // No byte carries into the next one.
            *u = (middle + distance - 2 * (distance & negative)).to_le_bytes();
        }
        Block {
            u,
            scales: parts.scales.map(|scale| scale as i8),
            mins: [0; GROUPS],
            d: f16::from_bits(parts.d).to_f32() * F::FACTOR,
            dmin: 0.0,
        }
    }
}

/// The values that the sum and the difference of `u` are made of: `u` is the first
/// one plus the second where it is positive, minus the second where it is negative.
#[inline(always)]
fn around<F: Codebook, V>(entry: V, splat: impl Fn(u8) -> V) -> (V, V) {
    if F::SHIFTED { (entry, splat(1)) } else { (splat(F::OFFSET), entry) }
}

/// Completes signs, eight in a byte, of which the highest one is not set: it makes the
/// number of negative values even.
#[inline(always)]
pub(crate) fn make_even(signs: &mut [u8; EIGHTS]) {
    for signs in signs {
        let fours = *signs ^ *signs >> 4;
        let twos = fours ^ fours >> 2;
        *signs |= (twos ^ twos >> 1) << 7;
    }
}

/// Signs and scales of IQ2_XXS and IQ3_XXS from the u32 of each 32 values: 4 times 7
/// bits of signs, 4 bits of `(scale - 1) / 2`.
#[inline(always)]
pub(crate) fn signs_and_scales(words: [u32; EIGHTS / 4]) -> ([u8; EIGHTS], [i16; GROUPS]) {
    let (mut sevens, mut scales) = ([0; EIGHTS / 4], [0u32; EIGHTS / 4]);
    for ((sevens, scales), word) in sevens.iter_mut().zip(&mut scales).zip(words) {
        let [a, b, c, d] = [0, 7, 14, 21].map(|at| word >> at & 127);
        *sevens = (a | b << 8 | c << 16 | d << 24).to_le();
        *scales = 0x0001_0001 * (word >> 28 << 1 | 1);
    }
    let mut signs = bytemuck::cast(sevens);
    make_even(&mut signs);
    (signs, bytemuck::cast(scales))
}

/// Odd scales from nibbles, the low one of a byte first: `2 * nibble + 1`.
#[inline(always)]
pub(crate) fn odd_scales(nibbles: &[u8]) -> [i16; GROUPS] {
    let mut scales = [0; GROUPS];
    for (scales, byte) in scales.as_chunks_mut::<2>().0.iter_mut().zip(nibbles) {
        let byte = i16::from(*byte);
        *scales = [byte << 1 & 30 | 1, byte >> 3 & 30 | 1];
    }
    scales
}

/// Indices from their low bits, and 16 bits each of high ones in their places, four
/// at a time, the first one lowest.
#[inline(always)]
pub(crate) fn join<const N: usize, const FOURS: usize>(low: &[u8], high: [u64; FOURS]) -> [u16; N]
where
    [u16; N]: bytemuck::Pod,
    [u64; FOURS]: bytemuck::Pod,
{
    const { assert!(cfg!(target_endian = "little"), "the first 16 bits are the lowest") };
    let mut indices: [u16; N] = bytemuck::cast(high);
    for (index, low) in indices.iter_mut().zip(low) {
        *index |= u16::from(*low);
    }
    indices
}
