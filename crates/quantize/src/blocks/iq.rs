//! The bytes of the formats with a codebook.
//!
//! Layouts: the modules of the same names in `realm_quant`.

use std::sync::LazyLock;

use realm_quant::codebooks;

use super::codebook::{Codebook, CodebookUse, Coded, Signs};
use super::{put_f16, to_f16};

/// What IQ1 adds to its entries, which are -1, 0 and 1.
const IQ1_SHIFTS: &[f32] = &[0.125, -0.125];
/// No shift.
const NONE: &[f32] = &[0.0];

static IQ1_S: LazyLock<Codebook<8>> = LazyLock::new(|| {
    let (signs, shifts) = (Signs::InEntries, IQ1_SHIFTS);
    let usage = CodebookUse { signs, shifts, shift_len: 32, group_len: 32, max_scale: 15.0 };
    Codebook::new(&codebooks::IQ1, |v| (f32::from(v) - 16.0) / 8.0, usage)
});

static IQ1_M: LazyLock<Codebook<8>> = LazyLock::new(|| {
    let (signs, shifts) = (Signs::InEntries, IQ1_SHIFTS);
    let usage = CodebookUse { signs, shifts, shift_len: 8, group_len: 16, max_scale: 15.0 };
    Codebook::new(&codebooks::IQ1, |v| (f32::from(v) - 16.0) / 8.0, usage)
});

static IQ2_XXS: LazyLock<Codebook<8>> = LazyLock::new(|| {
    Codebook::new(&codebooks::IQ2_XXS, |v| f32::from(v) / 8.0, magnitudes(Signs::Even, 32))
});
static IQ2_XS: LazyLock<Codebook<8>> = LazyLock::new(|| {
    Codebook::new(&codebooks::IQ2_XS, |v| f32::from(v) / 8.0, magnitudes(Signs::Even, 16))
});
static IQ2_S: LazyLock<Codebook<8>> = LazyLock::new(|| {
    Codebook::new(&codebooks::IQ2_S, |v| f32::from(v) / 8.0, magnitudes(Signs::Free, 16))
});
static IQ3_XXS: LazyLock<Codebook<4>> = LazyLock::new(|| {
    Codebook::new(&codebooks::IQ3_XXS, |v| f32::from(v) / 4.0, magnitudes(Signs::Even, 32))
});
static IQ3_S: LazyLock<Codebook<4>> =
    LazyLock::new(|| Codebook::new(&codebooks::IQ3_S, f32::from, magnitudes(Signs::Free, 32)));

fn magnitudes(signs: Signs, group_len: usize) -> CodebookUse {
    CodebookUse { signs, shifts: NONE, shift_len: group_len, group_len, max_scale: 31.0 }
}

/// `d`, low bits of indices, a word for 32 values: high bits, scale, shift.
pub(super) fn iq1_s(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ1_S.code(x, w);
    put_f16(out, 0, coded.scales.d);
    put_low_bits(&mut out[2..34], &coded);
    for (run, out) in out[34..].chunks_exact_mut(2).enumerate() {
        let high = |i: usize| coded.entries[4 * run + i] >> 8 << (3 * i);
        let word = (0..4).fold(0, |word, i| word | high(i))
            | u16::from(coded.scale(run)) << 12
            | u16::from(coded.shifts[4 * run]) << 15;
        out.copy_from_slice(&word.to_le_bytes());
    }
}

/// Low bits of indices, nibbles of high bits and shift, words with scales and `d`.
pub(super) fn iq1_m(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ1_M.code(x, w);
    put_low_bits(&mut out[..32], &coded);
    let nibble = |i: usize| (coded.entries[i] >> 8) as u8 | coded.shifts[i] << 3;
    for (i, out) in out[32..48].iter_mut().enumerate() {
        *out = nibble(2 * i) | nibble(2 * i + 1) << 4;
    }
    let d = to_f16(coded.scales.d).to_bits();
    for (i, out) in out[48..].chunks_exact_mut(2).enumerate() {
        let scale = |j: usize| u16::from(coded.scale(4 * i + j)) << (3 * j);
        let word = (0..4).fold(0, |word, j| word | scale(j)) | (d >> (4 * i) & 15) << 12;
        out.copy_from_slice(&word.to_le_bytes());
    }
}

/// `d`, then for 32 values four indices, seven signs of each eight, scale.
pub(super) fn iq2_xxs(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ2_XXS.code(x, w);
    put_f16(out, 0, coded.scales.d);
    for (run, out) in out[2..].chunks_exact_mut(8).enumerate() {
        put_low_bits_of(&mut out[..4], &coded.entries[4 * run..]);
        out[4..].copy_from_slice(&signs_and_scale(&coded, run).to_le_bytes());
    }
}

/// `d`, index and seven signs of each eight values, scales.
pub(super) fn iq2_xs(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ2_XS.code(x, w);
    put_f16(out, 0, coded.scales.d);
    for (i, out) in out[2..66].chunks_exact_mut(2).enumerate() {
        let word = coded.entries[i] | u16::from(coded.signs[i] & 127) << 9;
        out.copy_from_slice(&word.to_le_bytes());
    }
    put_scales(&mut out[66..], &coded);
}

/// `d`, low bits of indices, signs, high bits of indices, scales.
pub(super) fn iq2_s(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ2_S.code(x, w);
    put_f16(out, 0, coded.scales.d);
    put_low_bits(&mut out[2..34], &coded);
    out[34..66].copy_from_slice(&coded.signs);
    for (l, out) in out[66..74].iter_mut().enumerate() {
        *out = (0..4).fold(0, |byte, s| byte | (coded.entries[4 * l + s] >> 8 << (2 * s)) as u8);
    }
    put_scales(&mut out[74..], &coded);
}

/// `d`, indices, a word for 32 values: seven signs of each eight, scale.
pub(super) fn iq3_xxs(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ3_XXS.code(x, w);
    put_f16(out, 0, coded.scales.d);
    put_low_bits(&mut out[2..66], &coded);
    for (run, out) in out[66..].chunks_exact_mut(4).enumerate() {
        out.copy_from_slice(&signs_and_scale(&coded, run).to_le_bytes());
    }
}

/// `d`, low bits of indices, high bits of indices, signs, scales.
pub(super) fn iq3_s(x: &[f32], w: &[f32], out: &mut [u8]) {
    let coded = IQ3_S.code(x, w);
    put_f16(out, 0, coded.scales.d);
    put_low_bits(&mut out[2..66], &coded);
    for (l, out) in out[66..74].iter_mut().enumerate() {
        *out = (0..8).fold(0, |byte, s| byte | (coded.entries[8 * l + s] >> 8 << s) as u8);
    }
    out[74..106].copy_from_slice(&coded.signs);
    put_scales(&mut out[106..], &coded);
}

fn put_low_bits(out: &mut [u8], coded: &Coded) {
    put_low_bits_of(out, &coded.entries);
}

fn put_low_bits_of(out: &mut [u8], entries: &[u16]) {
    for (out, entry) in out.iter_mut().zip(entries) {
        *out = *entry as u8;
    }
}

/// Seven signs of each eight of 32 values; the scale in the highest bits.
fn signs_and_scale(coded: &Coded, run: usize) -> u32 {
    let signs = |i: usize| u32::from(coded.signs[4 * run + i] & 127) << (7 * i);
    (0..4).fold(u32::from(coded.scale(run)) << 28, |word, i| word | signs(i))
}

/// Two scales to a byte, the first one in the low nibble.
fn put_scales(out: &mut [u8], coded: &Coded) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = coded.scale(2 * i) | coded.scale(2 * i + 1) << 4;
    }
}
