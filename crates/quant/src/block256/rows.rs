//! Blocks of 256 values, one weight row per vector lane.

use std::marker::PhantomData;

use super::{Block256, GROUPS, LEN, PAIRS};
use crate::ActivationView;
use crate::rows::RowFormat;
use crate::simd::{Rows, Simd};

/// The same block of `S::LANES` rows.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks<S: Simd> {
    /// Values before scale and offset; vector `j` holds 4j..4j+4.
    pub u: [S::I; LEN / 4],
    /// Integer scale of each 16 values; only every other is used in formats
    /// where two groups share one.
    pub scales: [S::I; GROUPS],
    /// For groups 2j and 2j+1, packed as two i16 with the first one low: their
    /// minimums, or in formats without, their scales.
    pub pairs: [S::I; PAIRS],
    /// Scales of the scales.
    pub d: S::F,
    /// Scales of the minimums; ignored in formats without.
    pub dmin: S::F,
}

/// How a format's blocks become [`RowBlocks`].
pub(crate) trait Rows256: Block256 + Sized {
    /// Whether `u` may exceed 15.
    const WIDE: bool;
    /// Values that share a scale: 16 or 32.
    const SCALE_LEN: usize;

    /// Unpacks the block that begins at byte `at` of each row.
    ///
    /// Implementations are `#[inline(always)]`.
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>);
}

/// Splits sixteen bytes, which `words` holds four by four, into lanes of 32 bits.
#[inline(always)]
pub(crate) fn widen_bytes<S: Simd>(s: S, words: [S::I; 4]) -> [S::I; GROUPS] {
    let mut lanes = [words[0]; GROUPS];
    for (j, lane) in lanes.iter_mut().enumerate() {
        *lane = s.and(s.shr(words[j / 4], 8 * (j as u32 % 4)), s.splat(0xff));
    }
    lanes
}

/// Like [`widen_bytes`], for signed bytes.
#[inline(always)]
pub(crate) fn widen_signed_bytes<S: Simd>(s: S, words: [S::I; 4]) -> [S::I; GROUPS] {
    let mut lanes = [words[0]; GROUPS];
    for (j, lane) in lanes.iter_mut().enumerate() {
        *lane = s.sar(s.shl(words[j / 4], 24 - 8 * (j as u32 % 4)), 24);
    }
    lanes
}

/// Sets all scales to 1, for formats that have none but `d`.
#[inline(always)]
pub(crate) fn set_unit_scales<S: Simd>(s: S, block: &mut RowBlocks<S>) {
    block.scales = [s.splat(1); GROUPS];
    block.pairs = [s.splat(0x0001_0001); PAIRS];
}

/// Packs lanes of 32 bits in pairs of i16.
#[inline(always)]
pub(crate) fn pack_pairs<S: Simd>(s: S, lanes: &[S::I; GROUPS]) -> [S::I; PAIRS] {
    let mut pairs = [lanes[0]; PAIRS];
    for (j, pair) in pairs.iter_mut().enumerate() {
        *pair = s.or(s.and(lanes[2 * j], s.splat(0xffff)), s.shl(lanes[2 * j + 1], 16));
    }
    pairs
}

/// Fills scales and minimums from the first 16 bytes of a Q4_K or Q5_K block,
/// as [`super::scales_and_mins`] does.
#[inline(always)]
pub(crate) fn unpack_header<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
    let [d, a, b, c] = s.transpose(rows, at);
    block.d = s.f16_to_f32(d);
    block.dmin = s.f16_to_f32(s.shr(d, 16));
    let (six, four, two) = (s.splat(0x3f3f_3f3f), s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
    let high = |v| s.and(s.shr(v, 2), two);
    let scales = [s.and(a, six), s.or(s.and(c, four), high(a))];
    let mins = [s.and(b, six), s.or(s.and(s.shr(c, 4), four), high(b))];
    for j in 0..PAIRS {
        let byte = |words: [S::I; 2]| s.and(s.shr(words[j / 4], 8 * (j as u32 % 4)), s.splat(0xff));
        block.scales[2 * j] = byte(scales);
        let min = byte(mins);
        block.pairs[j] = s.or(min, s.shl(min, 16));
    }
}

/// The rows of a format of this family.
pub(crate) struct Family<F>(PhantomData<F>);

impl<F: Rows256> RowFormat for Family<F> {
    type Block<S: Simd> = RowBlocks<S>;
    const LEN: usize = LEN;

    #[inline(always)]
    fn empty<S: Simd>(s: S) -> RowBlocks<S> {
        RowBlocks {
            u: [s.splat(0); LEN / 4],
            scales: [s.splat(0); GROUPS],
            pairs: [s.splat(0); PAIRS],
            d: s.splat_f32(0.0),
            dmin: s.splat_f32(0.0),
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(s: S, rows: &Rows<'_>, at: usize, _part: usize, block: &mut RowBlocks<S>) {
        F::unpack_rows(s, rows, at, block);
    }

    #[inline(always)]
    #[expect(
        clippy::needless_range_loop,
        reason = "two arrays share an index, and it is a register"
    )]
    fn add<S: Simd, const G: usize, const T: usize>(
        s: S,
        w: [&RowBlocks<S>; G],
        x: &ActivationView<'_>,
        at: [usize; T],
        sums: &mut [[S::F; G]; T],
    ) {
        let (quants, _) = x.quants().as_chunks::<LEN>();
        let quants = at.map(|at| quants[at].as_chunks::<4>().0);
        let mut dots = [[s.splat(0); G]; T];
        for k in 0..LEN / F::SCALE_LEN {
            let mut group = [[s.dot_zero(); G]; T];
            for j in k * F::SCALE_LEN / 4..(k + 1) * F::SCALE_LEN / 4 {
                for t in 0..T {
                    let q = s.splat_bytes(quants[t][j]);
                    for g in 0..G {
                        group[t][g] = s.dot(F::WIDE, group[t][g], w[g].u[j], q);
                    }
                }
            }
            for g in 0..G {
                let scale = w[g].scales[k * F::SCALE_LEN / 16];
                for t in 0..T {
                    let scaled = s.mul(s.dot_sum(F::WIDE, group[t][g]), scale);
                    dots[t][g] = s.add(dots[t][g], scaled);
                }
            }
        }
        let (pairs_x, _) = x.sums().as_chunks::<PAIRS>();
        for t in 0..T {
            let pairs_x = &pairs_x[at[t]];
            let d_x = s.splat_f32(x.scales()[at[t]]);
            for g in 0..G {
                let mut pairs = s.splat(0);
                for j in 0..PAIRS {
                    pairs = s.dot_i16(pairs, w[g].pairs[j], s.splat(pairs_x[j]));
                }
                let mut dot = dots[t][g];
                if F::OFFSET != 0 {
                    dot = s.sub(dot, s.mul(pairs, s.splat(i32::from(F::OFFSET))));
                }
                let mut sum =
                    s.add_f32(sums[t][g], s.mul_f32(s.to_f32(dot), s.mul_f32(w[g].d, d_x)));
                if F::HAS_MIN {
                    let min = s.mul_f32(s.to_f32(pairs), s.mul_f32(w[g].dmin, d_x));
                    sum = s.sub_f32(sum, min);
                }
                sums[t][g] = sum;
            }
        }
    }
}
