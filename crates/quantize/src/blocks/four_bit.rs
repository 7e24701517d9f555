//! Formats of 4 bits whose levels are not evenly spaced.
//!
//! Layouts: the modules of the same names in `realm_quant`.

use std::convert::identity;

use super::fit::{self, Levels, Table};
use super::super_block::symmetric;
use super::{put_f16, put_nibbles, stored_f16};

/// Levels of IQ4_NL and IQ4_XS, in the order of their codes.
///
/// Source: `kvalues_iq4nl` in ggml `src/ggml-common.h`.
const IQ4_LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the floats of E2M1 (OCP Microscaling Formats 1.0).
const E2M1_LEVELS: [i8; 15] = [-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12];

const IQ4: Table<16> = Table::new(&IQ4_LEVELS);
const E2M1: Table<15> = Table::new(&E2M1_LEVELS);

/// `d` at byte 0, then codes.
pub(super) fn iq4_nl(x: &[f32], w: &[f32], out: &mut [u8]) {
    let inverse = fit::inverse(put_f16(out, 0, fit::scale(IQ4, stored_f16, x, w)));
    put_nibbles(&mut out[2..], |i| iq4_code(IQ4.nearest(x[i] * inverse)));
}

/// `d`, high bits of the scales, low bits of the scales, codes.
pub(super) fn iq4_xs(x: &[f32], w: &[f32], out: &mut [u8]) {
    let block = symmetric(IQ4, 32, 32.0, x, w);
    put_f16(out, 0, block.d);
    let scale = |j: usize| (block.scales[j] + 32) as u8;
    let high = (0..8).fold(0u16, |bits, j| bits | u16::from(scale(j) >> 4) << (2 * j));
    out[2..4].copy_from_slice(&high.to_le_bytes());
    for (j, out) in out[4..8].iter_mut().enumerate() {
        *out = (scale(2 * j) & 15) | (scale(2 * j + 1) & 15) << 4;
    }
    for (run, out) in out[8..].chunks_exact_mut(16).enumerate() {
        put_nibbles(out, |i| iq4_code(block.levels[32 * run + i].into()));
    }
}

/// The exponent of the scale, then codes.
pub(super) fn mxfp4(x: &[f32], w: &[f32], out: &mut [u8]) {
    let power = |e: i32| 2f32.powi(e - 64) * 2f32.powi(-64);
    let wanted = fit::scale(E2M1, identity, x, w).abs();
    let near = if wanted > 0.0 { wanted.log2().round() as i32 + 128 } else { 0 };
    let exponents = (near - 1..=near + 1).map(|e| e.clamp(0, 254));
    let e = best_scale(exponents, power, x, w);
    out[0] = e as u8;
    let inverse = fit::inverse(power(e));
    put_nibbles(&mut out[1..], |i| e2m1_code(E2M1.nearest(x[i] * inverse)));
}

/// Four scales, then codes, 16 values at a time.
pub(super) fn nvfp4(x: &[f32], w: &[f32], out: &mut [u8]) {
    let (scales, codes) = out.split_at_mut(4);
    let groups = x.chunks_exact(16).zip(w.chunks_exact(16));
    for (((x, w), byte), codes) in groups.zip(scales).zip(codes.chunks_exact_mut(8)) {
        // The bytes that stand for numbers are in order of these.
        let wanted = fit::scale(E2M1, identity, x, w).abs();
        let near = (0..0x7e).position(|byte| half_of_ue4m3(byte) >= wanted).unwrap_or(0x7e) as i32;
        let bytes = (near - 2..=near + 1).map(|byte| byte.clamp(0, 0x7e));
        *byte = best_scale(bytes, half_of_ue4m3, x, w) as u8;
        let inverse = fit::inverse(half_of_ue4m3((*byte).into()));
        let code = |i: usize| e2m1_code(E2M1.nearest(x[i] * inverse));
        for (i, byte) in codes.iter_mut().enumerate() {
            *byte = code(i) | code(i + 8) << 4;
        }
    }
}

/// The scale that byte `byte`, below 0x7f, stands for in NVFP4.
fn half_of_ue4m3(byte: i32) -> f32 {
    let (exponent, mantissa) = (byte >> 3, (byte & 7) as f32);
    if exponent == 0 {
        mantissa * 2f32.powi(-10)
    } else {
        (8.0 + mantissa) * 2f32.powi(exponent - 11)
    }
}

/// The candidate whose scale gives E2M1 levels the least error.
fn best_scale(
    candidates: impl Iterator<Item = i32>,
    scale: impl Fn(i32) -> f32,
    x: &[f32],
    w: &[f32],
) -> i32 {
    let error = |candidate: i32| fit::error(E2M1, scale(candidate), x, w);
    candidates.min_by(|a, b| error(*a).total_cmp(&error(*b))).expect("there are candidates")
}

fn iq4_code(level: f32) -> u8 {
    IQ4_LEVELS.partition_point(|l| f32::from(*l) < level) as u8
}

/// Sign in bit 3, then the place among the levels from 0 up.
fn e2m1_code(level: f32) -> u8 {
    let zero = E2M1_LEVELS.len() / 2;
    let place = E2M1_LEVELS[zero..].partition_point(|l| f32::from(*l) < level.abs()) as u8;
    place | if level < 0.0 { 8 } else { 0 }
}
