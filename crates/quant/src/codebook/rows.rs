//! Blocks with a codebook as vectors.
//!
//! A table cannot be read for all rows at once, so a vector is made of values that
//! follow one another in a row. With few tokens it is multiplied as it is, and the
//! sums of all rows are turned into one row per lane. With more, the values of all
//! rows are, and the rest is as for other formats of 256 values.
//!
//! Entries are read from memory one by one; where vectors can look 16-bit numbers and bytes up
//! (AVX-512 VBMI) and the codebook is not too large (that of IQ1 is, on Zen 4), 32 entries are looked up together as
//! numbers, which fit into few registers, and their digits then.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Codebook, Entry, Parts, around};
use crate::ActivationView;
use crate::activations::{Blocks, PAIRS_16, SUMS_256};
use crate::block256::rows::{self, RowBlocks, Rows256, pack_pairs, widen_signed_bytes};
use crate::block256::{GROUPS, LEN};
use crate::rows::RowFormat;
use crate::simd::{LaneRows, MAX_LANES, Simd};

/// The rows of a format of this kind.
pub(crate) struct FormatRows<F>(PhantomData<F>);

impl<F: Codebook> Rows256 for F {
    const WIDE: bool = true;
    const SCALE_LEN: usize = F::SCALE_LEN;
    const HAS_RUNS: bool = false;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        const ROW_BYTES: usize = LEN + GROUPS;
        let mut unpacked = [[0; ROW_BYTES]; MAX_LANES];
        let mut d = [0; MAX_LANES];
        for (lane, unpacked) in unpacked.iter_mut().enumerate().take(S::LANES) {
            let parts = parts::<S, F>(s, rows, lane, at);
            let (u, scales) = unpacked.split_at_mut(LEN);
            let numbers = numbers::<S, F>(s, &parts);
            for (i, u) in u.chunks_exact_mut(4 * S::LANES).enumerate() {
                s.store_bytes(values::<S, F>(s, &parts, &numbers, i), u);
            }
            scales.iter_mut().zip(parts.scales).for_each(|(to, scale)| *to = scale as u8);
            d[lane] = parts.d;
        }
        let unpacked = LaneRows::new::<S>(unpacked.as_flattened(), ROW_BYTES, 0, MAX_LANES);
        for (i, u) in block.u.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *u = s.transpose(&unpacked, 16 * i);
        }
        block.scales = widen_signed_bytes(s, s.transpose(&unpacked, LEN));
        block.pairs = pack_pairs::<S, Self>(s, &block.scales);
        block.d = scaled::<S, F>(s, &d);
    }
}

impl<F: Codebook> RowFormat for FormatRows<F> {
    type Block<S: Simd> = RowBlocks<S>;
    const LEN: usize = LEN;
    type Activations<'a> = Blocks<'a, LEN, SUMS_256>;

    #[inline(always)]
    fn empty<S: Simd>(s: S) -> RowBlocks<S> {
        rows::FormatRows::<F>::empty(s)
    }

    #[inline(always)]
    fn unpack<S: Simd>(
        s: S,
        rows: &LaneRows<'_>,
        at: usize,
        part: usize,
        block: &mut RowBlocks<S>,
    ) {
        rows::FormatRows::<F>::unpack(s, rows, at, part, block);
    }

    #[inline(always)]
    fn activations<'a>(
        x: &ActivationView<'a>,
        row: usize,
        blocks: Range<usize>,
    ) -> Self::Activations<'a> {
        x.blocks(row, blocks)
    }

    #[inline(always)]
    fn add<S: Simd, const G: usize, const T: usize>(
        s: S,
        blocks: [&RowBlocks<S>; G],
        x: &[Self::Activations<'_>; T],
        at: usize,
        sums: &mut [[S::F; G]; T],
    ) {
        rows::FormatRows::<F>::add(s, blocks, x, at, sums);
    }

    #[inline(always)]
    fn unpack_and_add<S: Simd, const T: usize>(
        s: S,
        (rows, at, _part): (&LaneRows<'_>, usize, usize),
        _block: &mut RowBlocks<S>,
        x: &[Self::Activations<'_>; T],
        at_x: usize,
        sums: &mut [[S::F; 1]; T],
    ) {
        let mut dots = [[s.splat(0); MAX_LANES]; T];
        let mut d = [0; MAX_LANES];
        for lane in 0..S::LANES {
            let parts = parts::<S, F>(s, rows, lane, at);
            d[lane] = parts.d;
            let x = std::array::from_fn(|t| (&x[t].quants[at_x], &x[t].sums[at_x]));
            let row = if S::DECODES {
                dot_signed::<S, F, T>(s, &parts, x)
            } else {
                dot_shifted::<S, F, T>(s, &parts, x)
            };
            for t in 0..T {
                dots[t][lane] = row[t];
            }
        }
        let d = scaled::<S, F>(s, &d);
        for t in 0..T {
            let dot = s.to_f32(s.sum_each(&dots[t]));
            let d_x = s.splat_f32(x[t].scales[at_x]);
            sums[t][0] = s.add_f32(sums[t][0], s.mul_f32(dot, s.mul_f32(d, d_x)));
        }
    }
}

/// A block of activations: its values, and sums of 16 of them.
type Block<'a> = (&'a [i8; LEN], &'a [i32; SUMS_256]);

/// Products of a block with one of each token, in any lanes: those of entries with activations
/// that have the signs of the weights.
#[inline(always)]
fn dot_signed<S: Simd, F: Codebook, const T: usize>(
    s: S,
    parts: &Parts<F::Entry>,
    x: [Block<'_>; T],
) -> [S::I; T] {
    const { assert!(!S::DECODES || !F::SHIFTED, "entries are not the magnitudes") };
    let mut dots = [s.splat(0); T];
    let numbers = numbers::<S, F>(s, parts);
    for i in 0..LEN / (4 * S::LANES) {
        let entries = entries::<S, F>(s, parts, &numbers, i);
        let scales = s.repeat_i16(&parts.scales, i);
        for t in 0..T {
            let (quants, _) = x[t];
            let q = s.negate_some(&parts.signs, i, s.load_bytes(&quants[4 * S::LANES * i..]));
            dots[t] = s.dot_i16(dots[t], scales, s.products(entries, q));
        }
    }
    dots
}

/// The same as products of values that are not negative.
#[inline(always)]
fn dot_shifted<S: Simd, F: Codebook, const T: usize>(
    s: S,
    parts: &Parts<F::Entry>,
    x: [Block<'_>; T],
) -> [S::I; T] {
    let mut dots = [s.splat(0); T];
    // At most 31 * 64 times as large as a sum of 16 activations: fits.
    let mut offsets = parts.scales;
    offsets.iter_mut().for_each(|scale| *scale *= -i16::from(F::OFFSET));
    let offsets = bytemuck::cast(offsets);
    for t in 0..T {
        let (_, sums) = x[t];
        let sums = sums.first_chunk::<PAIRS_16>().expect("more sums");
        dots[t] = s.dot_eight(dots[t], &offsets, sums);
    }
    let numbers = numbers::<S, F>(s, parts);
    for i in 0..LEN / (4 * S::LANES) {
        let u = values::<S, F>(s, parts, &numbers, i);
        let scales = s.repeat_i16(&parts.scales, i);
        for t in 0..T {
            let (quants, _) = x[t];
            let q = s.load_bytes(&quants[4 * S::LANES * i..]);
            dots[t] = s.dot_i16(dots[t], scales, s.products(u, q));
        }
    }
    dots
}

/// The parts of the block at byte `at` of the row in `lane`; prefetches as much.
#[inline(always)]
fn parts<S: Simd, F: Codebook>(
    s: S,
    rows: &LaneRows<'_>,
    lane: usize,
    at: usize,
) -> Parts<F::Entry> {
    rows.prefetch_some(s, F::TY.block_bytes());
    F::parts(rows.row_from(lane, at))
}

/// The entries of a block as numbers, where those are what values are made of.
#[inline(always)]
fn numbers<S: Simd, F: Codebook>(s: S, parts: &Parts<F::Entry>) -> [S::I; 2] {
    if !S::DECODES {
        return [s.splat(0); 2];
    }
    F::Entry::numbers(s, F::numbers(), &parts.indices)
}

/// Vector `at` of the entries of a block.
#[inline(always)]
fn entries<S: Simd, F: Codebook>(
    s: S,
    parts: &Parts<F::Entry>,
    numbers: &[S::I; 2],
    at: usize,
) -> S::I {
    if S::DECODES {
        let (which, shifts) = F::Entry::DIGITS;
        let digits = (&which[at % which.len()], shifts);
        return s.decode(numbers[at / which.len()], digits, Places::<F>::VALUES);
    }
    F::Entry::vector(s, F::grid(), &parts.indices, at)
}

/// Vector `at` of the values of a block.
#[inline(always)]
fn values<S: Simd, F: Codebook>(
    s: S,
    parts: &Parts<F::Entry>,
    numbers: &[S::I; 2],
    at: usize,
) -> S::I {
    let entries = entries::<S, F>(s, parts, numbers, at);
    let (middle, distance) = around::<F, S::I>(entries, |byte| s.splat_bytes([byte as i8; 4]));
    // No byte carries into the next one.
    let (positive, negative) = (s.add(middle, distance), s.sub(middle, distance));
    s.select(&parts.signs[S::LANES / 2 * at..], negative, positive)
}

/// What digits of numbers say.
struct Places<F>(PhantomData<F>);

impl<F: Codebook> Places<F> {
    /// Values by their places; bits beyond a digit are ignored.
    const VALUES: &'static [u8; 64] = &{
        let mut values = [0; 64];
        let mut i = 0;
        while i < 64 {
            let place = i & ((1 << F::Entry::BITS) - 1);
            // Three values have digits of two bits.
            if place < F::VALUES.len() {
                values[i] = F::VALUES[place];
            }
            i += 1;
        }
        values
    };
}

/// The scale of each row from the bits of its `d`.
#[inline(always)]
fn scaled<S: Simd, F: Codebook>(s: S, d: &[u16; MAX_LANES]) -> S::F {
    s.mul_f32(s.load_f16(bytemuck::cast_slice(d)), s.splat_f32(F::FACTOR))
}
