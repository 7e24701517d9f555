//! Blocks of 32 values, one weight row per vector lane.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Block32, LEN};
use crate::ActivationView;
use crate::activations::{Blocks, fours};
#[cfg(target_feature = "simd128")]
use crate::kernel::Problem;
use crate::packing::Order;
#[cfg(target_feature = "simd128")]
use crate::rows::Panels;
use crate::rows::RowFormat;
use crate::simd::{LaneRows, Simd, offset};

/// The same block of `S::LANES` rows.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks<S: Simd> {
    /// Values before scale and offset; vector `j` holds 4j..4j+4.
    pub u: [S::I; LEN / 4],
    /// Scales.
    pub d: S::F,
    /// Minimums; ignored in formats without.
    pub m: S::F,
}

/// How a format's blocks become [`RowBlocks`].
pub(crate) trait Rows32: Block32 {
    /// Whether `u` may exceed 15.
    const WIDE: bool;
    /// See [`RowFormat::ORDER`]: as in GGUF, where the scale comes first, mostly an f16.
    const ORDER: Order = Order { scale: Some((0, 2)), dwords: &[] };

    /// Unpacks one part of the block that begins at byte `at` of each row.
    ///
    /// Implementations are `#[inline(always)]`.
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, part: usize) -> RowBlocks<S>;
}

/// The nibbles of bytes `at..at + 16`, ordered as in [`super::nibbles`].
#[inline(always)]
pub(crate) fn nibbles<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize) -> [S::I; LEN / 4] {
    let [a, b, c, d] = s.transpose(rows, at);
    let mask = s.splat(0x0f0f_0f0f);
    let low = |v| s.and(v, mask);
    let high = |v| s.and(s.shr(v, 4), mask);
    [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
}

/// Does [`super::add_fifth_bits`] in every row.
#[inline(always)]
pub(crate) fn add_fifth_bits<S: Simd>(s: S, u: &mut [S::I; LEN / 4], bits: S::I) {
    for (j, u) in u.iter_mut().enumerate() {
        *u = s.or(*u, s.shl(spread_bits(s, bits, 4 * j as u32), 4));
    }
}

/// Bits `from..from + 4` of each lane, each at the bottom of a byte.
#[inline(always)]
pub(crate) fn spread_bits<S: Simd>(s: S, bits: S::I, from: u32) -> S::I {
    let four = s.and(s.shr(bits, from), s.splat(15));
    s.and(s.mul(four, s.splat(0x0020_4081)), s.splat(0x0101_0101))
}

/// The rows of a format of this kind.
pub(crate) struct FormatRows<F>(PhantomData<F>);

impl<F: Rows32> RowFormat for FormatRows<F> {
    type Block<S: Simd> = RowBlocks<S>;
    const LEN: usize = LEN;
    const PARTS: usize = F::PARTS;
    const TURN_TOKENS: usize = if F::HAS_MIN { 4 } else { 6 };
    const ORDER: Order = F::ORDER;
    type Activations<'a> = Blocks<'a, LEN, 1>;

    #[inline(always)]
    fn empty<S: Simd>(s: S) -> RowBlocks<S> {
        RowBlocks { u: [s.splat(0); LEN / 4], d: s.splat_f32(0.0), m: s.splat_f32(0.0) }
    }

    #[inline(always)]
    fn unpack<S: Simd>(
        s: S,
        rows: &LaneRows<'_>,
        at: usize,
        part: usize,
        block: &mut RowBlocks<S>,
    ) {
        *block = F::unpack_rows(s, rows, at, part);
    }

    #[inline(always)]
    fn activations<'a>(
        x: &ActivationView<'a>,
        row: usize,
        blocks: Range<usize>,
    ) -> Self::Activations<'a> {
        x.blocks(row, blocks)
    }

    #[cfg(target_feature = "simd128")]
    #[inline(always)]
    fn multiply_many<S: Simd>(s: S, problem: Problem<'_>) {
        let bytes_are_multiplied = cfg!(target_feature = "relaxed-simd") && !F::WIDE;
        if const { F::HAS_MIN } || bytes_are_multiplied {
            return s.run(Panels::<Self>::new(problem));
        }
        s.run(super::wide::Widened::<F> { problem, format: PhantomData });
    }

    #[inline(always)]
    fn add<S: Simd, const G: usize, const T: usize>(
        s: S,
        w: [&RowBlocks<S>; G],
        x: &[Self::Activations<'_>; T],
        at: usize,
        sums: &mut [[S::F; G]; T],
    ) {
        let mut u = [&w[0].u[..]; G];
        for g in 0..G {
            u[g] = &w[g].u;
        }
        let dots = s.dots(F::WIDE, u, fours(x, at, 0..LEN / 4));
        for t in 0..T {
            let [sum_x] = x[t].sums[at];
            let d_x = s.splat_f32(x[t].scales[at]);
            for g in 0..G {
                let mut dot = dots[t][g];
                let offset = const { offset::<S>(F::OFFSET) };
                if offset != 0 {
                    const { assert!(F::OFFSET == 0 || F::OFFSET.is_power_of_two()) };
                    let shift = u32::from(offset).trailing_zeros();
                    dot = s.sub(dot, s.shl(s.splat(sum_x), shift));
                }
                let dot = s.to_f32(dot);
                let term = if F::HAS_MIN {
                    let min = s.mul_f32(s.to_f32(s.splat(sum_x)), w[g].m);
                    s.mul_f32(s.add_f32(s.mul_f32(dot, w[g].d), min), d_x)
                } else {
                    s.mul_f32(dot, s.mul_f32(w[g].d, d_x))
                };
                sums[t][g] = s.add_f32(sums[t][g], term);
            }
        }
    }
}
