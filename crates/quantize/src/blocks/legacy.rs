//! Blocks of 32 values with one scale, as in the first formats of GGUF.
//!
//! Layouts: the modules of the same names in `realm_quant`.

use super::fit::{self, Integers, Levels, Line};
use super::{put_f16, put_nibbles, stored_f16};

/// `d` at byte 0, 4 bits.
pub(super) fn q4_0(x: &[f32], w: &[f32], out: &mut [u8]) {
    let u = signed(Integers::<-8, 7>, 8.0, x, w, out);
    put_nibbles(&mut out[2..], |i| u[i]);
}

/// `d` and `m` at bytes 0 and 2, 4 bits.
pub(super) fn q4_1(x: &[f32], w: &[f32], out: &mut [u8]) {
    let u = with_minimum(15.0, x, w, out);
    put_nibbles(&mut out[4..], |i| u[i]);
}

/// `d` at byte 0, high bits at byte 2, low bits at byte 6.
pub(super) fn q5_0(x: &[f32], w: &[f32], out: &mut [u8]) {
    let u = signed(Integers::<-16, 15>, 16.0, x, w, out);
    out[2..6].copy_from_slice(&fifth_bits(&u));
    put_nibbles(&mut out[6..], |i| u[i]);
}

/// `d` and `m` at bytes 0 and 2, high bits at byte 4, low bits at byte 8.
pub(super) fn q5_1(x: &[f32], w: &[f32], out: &mut [u8]) {
    let u = with_minimum(31.0, x, w, out);
    out[4..8].copy_from_slice(&fifth_bits(&u));
    put_nibbles(&mut out[8..], |i| u[i]);
}

/// `d` at byte 0, 8 bits signed. The largest value takes the last level: with so
/// many levels, a search gains nothing that can be noticed.
pub(super) fn q8_0(x: &[f32], _w: &[f32], out: &mut [u8]) {
    let max = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    // Rounding to f16 may make the scale too small for the largest value.
    let inverse = fit::inverse(put_f16(out, 0, max / 127.0));
    for (x, out) in x.iter().zip(&mut out[2..]) {
        *out = Integers::<-127, 127>.nearest(x * inverse) as i8 as u8;
    }
}

/// Writes the scale; the levels, with `offset` added.
fn signed<L: Levels>(levels: L, offset: f32, x: &[f32], w: &[f32], out: &mut [u8]) -> [u8; 32] {
    let inverse = fit::inverse(put_f16(out, 0, fit::scale(levels, stored_f16, x, w)));
    std::array::from_fn(|i| (levels.nearest(x[i] * inverse) + offset) as u8)
}

/// Writes scale and minimum.
fn with_minimum(max: f32, x: &[f32], w: &[f32], out: &mut [u8]) -> [u8; 32] {
    let line = fit::line(max, false, x, w);
    let line = Line { d: put_f16(out, 0, line.d), offset: put_f16(out, 2, line.offset) };
    let inverse = fit::inverse(line.d);
    std::array::from_fn(|i| line.nearest(max, inverse, x[i]) as u8)
}

/// Bit 4 of each number, in the order of the numbers.
fn fifth_bits(u: &[u8; 32]) -> [u8; 4] {
    let bits = u.iter().enumerate().fold(0u32, |bits, (i, u)| bits | u32::from(u >> 4 & 1) << i);
    bits.to_le_bytes()
}
