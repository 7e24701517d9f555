//! Formats of one or two bits with one scale.
//!
//! Layouts: the modules of the same names in `realm_quant`.

use super::fit::{self, Integers, Levels, Table};
use super::k_quants::put_pairs;
use super::{put_f16, stored_f16};

/// Digits in base 3, then `d`.
pub(super) fn tq1_0(x: &[f32], w: &[f32], out: &mut [u8]) {
    let u = ternary(x, w, &mut out[52..]);
    put_digits(&mut out[..32], &u[..160], 5);
    put_digits(&mut out[32..48], &u[160..240], 5);
    put_digits(&mut out[48..52], &u[240..], 4);
}

/// 2 bits, then `d`.
pub(super) fn tq2_0(x: &[f32], w: &[f32], out: &mut [u8]) {
    let u = ternary(x, w, &mut out[64..]);
    put_pairs(&mut out[..64], |i| u[i]);
}

/// `d`, then one bit: the sign.
pub(super) fn q1_0(x: &[f32], w: &[f32], out: &mut [u8]) {
    let levels = Table::new(&[-1, 1]);
    let inverse = fit::inverse(put_f16(out, 0, fit::scale(levels, stored_f16, x, w).abs()));
    for (x, out) in x.chunks_exact(8).zip(&mut out[2..]) {
        let bit = |x: f32| u8::from(levels.nearest(x * inverse) > 0.0);
        *out = x.iter().enumerate().fold(0, |byte, (i, x)| byte | bit(*x) << i);
    }
}

/// `d`, then 2 bits for -1 to 2.
pub(super) fn q2_0(x: &[f32], w: &[f32], out: &mut [u8]) {
    let levels = Integers::<-1, 2>;
    let inverse = fit::inverse(put_f16(out, 0, fit::scale(levels, stored_f16, x, w)));
    for (x, out) in x.chunks_exact(4).zip(&mut out[2..]) {
        let u = |x: f32| (levels.nearest(x * inverse) + 1.0) as u8;
        *out = x.iter().enumerate().fold(0, |byte, (i, x)| byte | u(*x) << (2 * i));
    }
}

/// Writes `d`; for each value 0, 1 or 2.
fn ternary(x: &[f32], w: &[f32], d: &mut [u8]) -> [u8; 256] {
    let levels = Integers::<-1, 1>;
    let inverse = fit::inverse(put_f16(d, 0, fit::scale(levels, stored_f16, x, w)));
    std::array::from_fn(|i| (levels.nearest(x[i] * inverse) + 1.0) as u8)
}

/// Digit `s` of byte `l` is `u[s * out.len() + l]`; the byte is the fraction, out of
/// 256, whose digits in base 3 these are, rounded up.
fn put_digits(out: &mut [u8], u: &[u8], n_digits: usize) {
    let n = out.len();
    for (l, out) in out.iter_mut().enumerate() {
        let digit = |s: usize| if s < n_digits { u16::from(u[s * n + l]) } else { 0 };
        let number = (0..5).fold(0, |number, s| number * 3 + digit(s));
        *out = (number * 256).div_ceil(243) as u8;
    }
}
