//! Blocks of 256 values, one weight row per vector lane.

use std::marker::PhantomData;

use super::{Block256, GROUPS, LEN, PAIRS};
use crate::ActivationView;
use crate::rows::RowFormat;
use crate::simd::{Rows, Simd, offset};

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
    /// Whether `u` never exceeds 63 if it may exceed 15.
    const BELOW_64: bool = false;
    /// Values that share a scale: 16 or 32.
    const SCALE_LEN: usize;

    /// Whether blocks are unpacked by [`unpack_scales`](Self::unpack_scales) and
    /// [`unpack_run`](Self::unpack_run), so that values can stay in registers until they
    /// are multiplied.
    const HAS_RUNS: bool = true;

    /// 2 where the groups of a run are neighbours in pairs that share a scale, else 1.
    const GROUPS_PER_SUM: usize = 1;

    /// Unpacks the block that begins at byte `at` of each row.
    ///
    /// Implementations are `#[inline(always)]`, as are those of the other functions.
    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        Self::unpack_scales(s, rows, at, block);
        for run in 0..RUNS {
            let u = Self::unpack_run(s, rows, at, run);
            for (i, group) in u.as_chunks::<GROUP_VECTORS>().0.iter().enumerate() {
                let to = GROUP_VECTORS * Self::group(run, i);
                block.u[to..to + GROUP_VECTORS].copy_from_slice(group);
            }
        }
    }

    /// All of a block but its values.
    #[inline(always)]
    fn unpack_scales<S: Simd>(_s: S, _rows: &Rows<'_>, _at: usize, _block: &mut RowBlocks<S>) {
        unreachable!("formats with runs unpack scales")
    }

    /// A quarter of the values: four groups of 16.
    #[inline(always)]
    fn unpack_run<S: Simd>(_s: S, _rows: &Rows<'_>, _at: usize, _run: usize) -> Run<S> {
        unreachable!("formats with runs unpack them")
    }

    /// Which group of 16 values is the `i`-th of a run.
    #[inline(always)]
    fn group(run: usize, i: usize) -> usize {
        RUNS * run + i
    }
}

/// Runs in a block, and groups in a run.
const RUNS: usize = 4;
/// Vectors of a group of 16 values.
const GROUP_VECTORS: usize = 4;

/// Some values of a block, four in each lane of a vector.
pub(crate) type Run<S> = [<S as Simd>::I; LEN / RUNS / 4];

/// [`Rows256::group`] where 16 bytes hold parts of values 32 apart.
#[inline(always)]
pub(crate) fn group_of_quarters(run: usize, i: usize) -> usize {
    8 * (run / 2) + 2 * i + run % 2
}

/// Two bits of each value, 16 bytes from `at` on for each run.
#[inline(always)]
pub(crate) fn unpack_two_bits<S: Simd>(s: S, rows: &Rows<'_>, at: usize, run: usize) -> Run<S> {
    let two = s.splat(0x0303_0303);
    let words: [_; 4] = s.transpose(rows, at + 16 * run);
    let mut u = [two; 16];
    for (j, word) in words.into_iter().enumerate() {
        for i in 0..4 {
            u[4 * i + j] = s.and(s.shr(word, 2 * i as u32), two);
        }
    }
    u
}

/// Splits sixteen bytes, which `words` holds four by four, into lanes of 32 bits.
#[inline(always)]
pub(crate) fn widen_bytes<S: Simd>(s: S, words: [S::I; 4]) -> [S::I; GROUPS] {
    each_byte(words, |word, at| s.and(s.shr(word, at), s.splat(0xff)))
}

/// Like [`widen_bytes`], for signed bytes.
#[inline(always)]
pub(crate) fn widen_signed_bytes<S: Simd>(s: S, words: [S::I; 4]) -> [S::I; GROUPS] {
    each_byte(words, |word, at| s.sar(s.shl(word, 24 - at), 24))
}

/// What `f` makes of each word and the first bit of each of its bytes. Written out: not
/// every compiler unrolls a loop of sixteen, and shifts by what is not constant are slow.
#[inline(always)]
fn each_byte<I: Copy>([a, b, c, d]: [I; 4], f: impl Fn(I, u32) -> I) -> [I; GROUPS] {
    let f = |word, byte: u32| f(word, 8 * byte);
    [
        [f(a, 0), f(a, 1), f(a, 2), f(a, 3)],
        [f(b, 0), f(b, 1), f(b, 2), f(b, 3)],
        [f(c, 0), f(c, 1), f(c, 2), f(c, 3)],
        [f(d, 0), f(d, 1), f(d, 2), f(d, 3)],
    ]
    .as_flattened()
    .try_into()
    .expect("four times four")
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
            let at = k * F::SCALE_LEN / 4..(k + 1) * F::SCALE_LEN / 4;
            let group = block_dots::<S, F, G, T>(
                s,
                w.map(|w| &w.u[at.clone()]),
                quants.map(|q| &q[at.clone()]),
            );
            for g in 0..G {
                let scale = w[g].scales[k * F::SCALE_LEN / 16];
                for t in 0..T {
                    let scaled = s.mul(group[t][g], scale);
                    dots[t][g] = s.add(dots[t][g], scaled);
                }
            }
        }
        for t in 0..T {
            for g in 0..G {
                sums[t][g] = add_block::<S, F>(s, sums[t][g], dots[t][g], w[g], x, at[t]);
            }
        }
    }

    #[inline(always)]
    fn unpack_and_add<S: Simd, const T: usize>(
        s: S,
        (rows, at, part): (&Rows<'_>, usize, usize),
        block: &mut RowBlocks<S>,
        x: &ActivationView<'_>,
        at_x: [usize; T],
        sums: &mut [[S::F; 1]; T],
    ) {
        if const { !F::HAS_RUNS } {
            Self::unpack(s, rows, at, part, block);
            return Self::add(s, [block], x, at_x, sums);
        }
        F::unpack_scales(s, rows, at, block);
        let (quants, _) = x.quants().as_chunks::<LEN>();
        let quants = at_x.map(|at| quants[at].as_chunks::<4>().0);
        let mut dots = [s.splat(0); T];
        for run in 0..RUNS {
            let u = F::unpack_run(s, rows, at, run);
            for i in 0..const { RUNS / F::GROUPS_PER_SUM } {
                let first = F::group(run, F::GROUPS_PER_SUM * i);
                let n = const { F::GROUPS_PER_SUM * GROUP_VECTORS };
                let x = quants.map(|q| &q[GROUP_VECTORS * first..][..n]);
                let sum = block_dots::<S, F, 1, T>(s, [&u[n * i..][..n]], x);
                let scale = block.scales[first / (F::SCALE_LEN / 16) * (F::SCALE_LEN / 16)];
                for t in 0..T {
                    let scaled = s.mul(sum[t][0], scale);
                    dots[t] = s.add(dots[t], scaled);
                }
            }
        }
        for t in 0..T {
            sums[t][0] = add_block::<S, F>(s, sums[t][0], dots[t], block, x, at_x[t]);
        }
    }
}

/// Sums of products of values as large as the format's.
#[inline(always)]
fn block_dots<S: Simd, F: Rows256, const G: usize, const T: usize>(
    s: S,
    w: [&[S::I]; G],
    x: [&[[i8; 4]]; T],
) -> [[S::I; G]; T] {
    if F::BELOW_64 { s.dots_below_64(w, x) } else { s.dots(F::WIDE, w, x) }
}

/// What is left of a block's product when those of its values have been summed in `dot`.
#[inline(always)]
fn add_block<S: Simd, F: Rows256>(
    s: S,
    sum: S::F,
    mut dot: S::I,
    w: &RowBlocks<S>,
    x: &ActivationView<'_>,
    at: usize,
) -> S::F {
    let pairs_x = &x.sums().as_chunks::<PAIRS>().0[at];
    let d_x = s.splat_f32(x.scales()[at]);
    let mut pairs = s.splat(0);
    for (w, x) in w.pairs.iter().zip(pairs_x) {
        pairs = s.dot_i16(pairs, *w, s.splat(*x));
    }
    let offset = const { offset::<S>(F::OFFSET) };
    if offset != 0 {
        dot = s.sub(dot, s.mul(pairs, s.splat(i32::from(offset))));
    }
    let sum = s.add_f32(sum, s.mul_f32(s.to_f32(dot), s.mul_f32(w.d, d_x)));
    if F::HAS_MIN {
        let min = s.mul_f32(s.to_f32(pairs), s.mul_f32(w.dmin, d_x));
        return s.sub_f32(sum, min);
    }
    sum
}
