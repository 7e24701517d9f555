//! The K-quants: blocks of 256 values with integer scales.
//!
//! Layouts: the modules of the same names in `realm_quant`.

use super::fit::Integers;
use super::put_f16;
use super::super_block::{Affine, LEN, affine, symmetric};

/// Scales and minimums in nibbles, then 2 bits, `d`, `dmin`.
pub(super) fn q2_k(x: &[f32], w: &[f32], out: &mut [u8]) {
    let block = affine(3.0, 16, 15.0, x, w);
    for (j, out) in out[..16].iter_mut().enumerate() {
        *out = block.scales[j] | block.mins[j] << 4;
    }
    put_pairs(&mut out[16..80], |i| block.u[i]);
    put_f16(out, 80, block.d);
    put_f16(out, 82, block.dmin);
}

/// High bits, 2 low bits, scales of 6 bits, `d`.
pub(super) fn q3_k(x: &[f32], w: &[f32], out: &mut [u8]) {
    let block = symmetric(Integers::<-4, 3>, 16, 32.0, x, w);
    let u = |i: usize| (block.levels[i] + 4) as u8;
    let scale = |j: usize| (block.scales[j] + 32) as u8;
    out.fill(0);
    for i in 0..LEN {
        out[i % 32] |= (u(i) >> 2) << (i / 32);
    }
    put_pairs(&mut out[32..96], u);
    for j in 0..16 {
        out[96 + j % 8] |= (scale(j) & 15) << (j / 8 * 4);
        out[104 + j % 4] |= (scale(j) >> 4) << (j / 4 * 2);
    }
    put_f16(out, 108, block.d);
}

/// `d`, `dmin`, scales and minimums of 6 bits, 4 bits.
pub(super) fn q4_k(x: &[f32], w: &[f32], out: &mut [u8]) {
    let block = affine(15.0, 32, 63.0, x, w);
    put_header(out, &block);
    put_nibble_runs(&mut out[16..], |i| block.u[i]);
}

/// `d`, `dmin`, scales and minimums of 6 bits, high bits, 4 low bits.
pub(super) fn q5_k(x: &[f32], w: &[f32], out: &mut [u8]) {
    let block = affine(31.0, 32, 63.0, x, w);
    put_header(out, &block);
    out[16..48].fill(0);
    for i in 0..LEN {
        out[16 + i % 32] |= (block.u[i] >> 4) << (i / 32);
    }
    put_nibble_runs(&mut out[48..], |i| block.u[i]);
}

/// 4 low bits, 2 high bits, scales of 8 bits, `d`.
pub(super) fn q6_k(x: &[f32], w: &[f32], out: &mut [u8]) {
    let block = symmetric(Integers::<-32, 31>, 16, 128.0, x, w);
    let u = |i: usize| (block.levels[i] + 32) as u8;
    for (half, out) in out[..128].chunks_exact_mut(64).enumerate() {
        for (l, out) in out.iter_mut().enumerate() {
            let i = 128 * half + l;
            *out = (u(i) & 15) | (u(i + 64) & 15) << 4;
        }
    }
    put_pairs(&mut out[128..192], |i| u(i) >> 4);
    for (j, out) in out[192..208].iter_mut().enumerate() {
        *out = block.scales[j] as u8;
    }
    put_f16(out, 208, block.d);
}

/// Two runs of 32 bytes, one per 128 values; bits `2s..2s+2` of byte `l` are value `32 s + l`.
pub(super) fn put_pairs(out: &mut [u8], u: impl Fn(usize) -> u8) {
    for (half, out) in out.chunks_exact_mut(32).enumerate() {
        for (l, out) in out.iter_mut().enumerate() {
            *out = (0..4).fold(0, |byte, s| byte | (u(128 * half + 32 * s + l) & 3) << (2 * s));
        }
    }
}

/// Four runs of 32 bytes, one per 64 values: the first 32 in the low nibbles.
fn put_nibble_runs(out: &mut [u8], u: impl Fn(usize) -> u8) {
    for (run, out) in out.chunks_exact_mut(32).enumerate() {
        for (l, out) in out.iter_mut().enumerate() {
            *out = (u(64 * run + l) & 15) | (u(64 * run + 32 + l) & 15) << 4;
        }
    }
}

/// The first 16 bytes of Q4_K and Q5_K.
fn put_header(out: &mut [u8], block: &Affine) {
    put_f16(out, 0, block.d);
    put_f16(out, 2, block.dmin);
    let packed = &mut out[4..16];
    for j in 0..4 {
        let high = |six: u8| six >> 4 << 6;
        packed[j] = block.scales[j] | high(block.scales[j + 4]);
        packed[j + 4] = block.mins[j] | high(block.mins[j + 4]);
        packed[j + 8] = (block.scales[j + 4] & 15) | block.mins[j + 4] << 4;
    }
}
