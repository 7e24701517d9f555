//! Blocks of 256 values, one weight row per vector lane.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Block256, GROUPS, LEN};
use crate::ActivationView;
use crate::activations::{Blocks, PAIRS_16, SUMS_256, fours};
use crate::packing::Order;
use crate::rows::RowFormat;
use crate::simd::{LaneRows, Simd, offset};

/// The same block of `S::LANES` rows.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks<S: Simd> {
    /// Values before scale and offset; vector `j` holds 4j..4j+4.
    pub u: [S::I; LEN / 4],
    /// Integer scale of each 16 values; only every other is used in formats
    /// where two groups share one.
    pub scales: [S::I; GROUPS],
    /// For runs 2j and 2j+1 that share a scale, packed as two i16 with the first one low:
    /// their minimums, or in formats without, their scales. Where runs have 32 values,
    /// only the first half is used.
    pub pairs: [S::I; PAIRS_16],
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

    /// See [`RowFormat::ORDER`]: unless said otherwise, that of GGUF, which is then the one
    /// in which blocks are read.
    const ORDER: Order = Order { scale: None, dwords: &[] };

    /// Unpacks the block that begins at byte `at` of each row.
    ///
    /// Implementations are `#[inline(always)]`, as are those of the other functions.
    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
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
    fn unpack_scales<S: Simd>(_s: S, _rows: &LaneRows<'_>, _at: usize, _block: &mut RowBlocks<S>) {
        unreachable!("formats with runs unpack scales")
    }

    /// A quarter of the values: four groups of 16.
    #[inline(always)]
    fn unpack_run<S: Simd>(_s: S, _rows: &LaneRows<'_>, _at: usize, _run: usize) -> Run<S> {
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

/// Which byte of a row's block the dword is at that GGUF has at `at`.
#[inline(always)]
pub(crate) fn place<S: Simd, F: Rows256>(at: usize) -> usize {
    let places = const { &F::ORDER.places() };
    if S::PACKED { places[at / 4] } else { at }
}

/// [`Rows256::group`] where 16 bytes hold parts of values 32 apart.
#[inline(always)]
pub(crate) fn group_of_quarters(run: usize, i: usize) -> usize {
    8 * (run / 2) + 2 * i + run % 2
}

/// Two bits of each value of a run, which are 16 bytes from `at` on.
#[inline(always)]
pub(crate) fn unpack_two_bits<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize) -> Run<S> {
    let two = s.splat(0x0303_0303);
    let words: [_; 4] = s.transpose(rows, at);
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
    block.pairs = [s.splat(0x0001_0001); PAIRS_16];
}

/// The numbers of each 16 values, as [`RowBlocks::pairs`] of a format has them.
#[inline(always)]
pub(crate) fn pack_pairs<S: Simd, F: Rows256>(s: S, groups: &[S::I; GROUPS]) -> [S::I; PAIRS_16] {
    let step = F::SCALE_LEN / 16;
    let mut pairs = [groups[0]; PAIRS_16];
    for (j, pair) in pairs.iter_mut().enumerate().take(LEN / F::SCALE_LEN / 2) {
        let (first, second) = (groups[2 * j * step], groups[(2 * j + 1) * step]);
        *pair = s.or(s.and(first, s.splat(0xffff)), s.shl(second, 16));
    }
    pairs
}

/// Fills scales and minimums from the first 16 bytes of a Q4_K or Q5_K block,
/// as [`super::scales_and_mins`] does.
#[inline(always)]
pub(crate) fn unpack_header<S: Simd>(
    s: S,
    rows: &LaneRows<'_>,
    at: usize,
    block: &mut RowBlocks<S>,
) {
    let [d, a, b, c] = s.transpose(rows, at);
    block.d = s.f16_to_f32(d);
    block.dmin = s.f16_to_f32(s.shr(d, 16));
    let (six, four, two) = (s.splat(0x3f3f_3f3f), s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
    let high = |v| s.and(s.shr(v, 2), two);
    let scales = [s.and(a, six), s.or(s.and(c, four), high(a))];
    let mins = [s.and(b, six), s.or(s.and(s.shr(c, 4), four), high(b))];
    let byte =
        |words: [S::I; 2], j: usize| s.and(s.shr(words[j / 4], 8 * (j as u32 % 4)), s.splat(0xff));
    for j in 0..GROUPS / 2 {
        block.scales[2 * j] = byte(scales, j);
    }
    for j in 0..GROUPS / 4 {
        block.pairs[j] = s.or(byte(mins, 2 * j), s.shl(byte(mins, 2 * j + 1), 16));
    }
}

/// The rows of a format of this kind.
pub(crate) struct FormatRows<F>(PhantomData<F>);

impl<F: Rows256> RowFormat for FormatRows<F> {
    type Block<S: Simd> = RowBlocks<S>;
    const TURN_TOKENS: usize = if F::SCALE_LEN == 32 && !F::WIDE { 4 } else { 0 };
    const LEN: usize = LEN;
    const ORDER: Order = F::ORDER;
    type Activations<'a> = Blocks<'a, LEN, SUMS_256>;

    #[inline(always)]
    fn empty<S: Simd>(s: S) -> RowBlocks<S> {
        RowBlocks {
            u: [s.splat(0); LEN / 4],
            scales: [s.splat(0); GROUPS],
            pairs: [s.splat(0); PAIRS_16],
            d: s.splat_f32(0.0),
            dmin: s.splat_f32(0.0),
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(
        s: S,
        rows: &LaneRows<'_>,
        at: usize,
        _part: usize,
        block: &mut RowBlocks<S>,
    ) {
        F::unpack_rows(s, rows, at, block);
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
        w: [&RowBlocks<S>; G],
        x: &[Self::Activations<'_>; T],
        at: usize,
        sums: &mut [[S::F; G]; T],
    ) {
        let mut dots = [[s.splat(0); G]; T];
        for k in 0..LEN / F::SCALE_LEN {
            let at_k = k * F::SCALE_LEN / 4..(k + 1) * F::SCALE_LEN / 4;
            let mut w_k = [&w[0].u[..0]; G];
            for g in 0..G {
                w_k[g] = &w[g].u[at_k.clone()];
            }
            let group = block_dots::<S, F, G, T>(s, w_k, fours(x, at, at_k));
            for g in 0..G {
                let scale = w[g].scales[k * F::SCALE_LEN / 16];
                for t in 0..T {
                    let scaled = s.mul(group[t][g], scale);
                    dots[t][g] = s.add(dots[t][g], scaled);
                }
            }
        }
        finish_block::<S, F, G, T>(s, w, x, at, dots, sums);
    }

    #[inline(always)]
    fn unpack_and_add<S: Simd, const T: usize>(
        s: S,
        (rows, at, part): (&LaneRows<'_>, usize, usize),
        block: &mut RowBlocks<S>,
        x: &[Self::Activations<'_>; T],
        at_x: usize,
        sums: &mut [[S::F; 1]; T],
    ) {
        if const { !F::HAS_RUNS } {
            Self::unpack(s, rows, at, part, block);
            return Self::add(s, [block], x, at_x, sums);
        }
        F::unpack_scales(s, rows, at, block);
        let mut dots = [s.splat(0); T];
        for run in 0..RUNS {
            let u = F::unpack_run(s, rows, at, run);
            for i in 0..const { RUNS / F::GROUPS_PER_SUM } {
                let first = F::group(run, F::GROUPS_PER_SUM * i);
                let n = const { F::GROUPS_PER_SUM * GROUP_VECTORS };
                let begin = GROUP_VECTORS * first;
                let x = fours(x, at_x, begin..begin + n);
                let sum = block_dots::<S, F, 1, T>(s, [&u[n * i..][..n]], x);
                let scale = block.scales[first / (F::SCALE_LEN / 16) * (F::SCALE_LEN / 16)];
                for t in 0..T {
                    let scaled = s.mul(sum[t][0], scale);
                    dots[t] = s.add(dots[t], scaled);
                }
            }
        }
        finish_block::<S, F, 1, T>(s, [block], x, at_x, dots.map(|dot| [dot]), sums);
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

/// What is left of a block's products when those of its values have been summed in `dots`.
#[inline(always)]
fn finish_block<S: Simd, F: Rows256, const G: usize, const T: usize>(
    s: S,
    w: [&RowBlocks<S>; G],
    x: &[Blocks<'_, LEN, SUMS_256>; T],
    at: usize,
    dots: [[S::I; G]; T],
    sums: &mut [[S::F; G]; T],
) {
    let mut pairs = [[s.splat(0); G]; T];
    if const { offset::<S>(F::OFFSET) } != 0 || F::HAS_MIN {
        let first = if F::SCALE_LEN == 32 { PAIRS_16 } else { 0 };
        for j in 0..LEN / F::SCALE_LEN / 2 {
            for t in 0..T {
                let pair_x = s.splat(x[t].sums[at][first + j]);
                for g in 0..G {
                    pairs[t][g] = s.dot_i16(pairs[t][g], w[g].pairs[j], pair_x);
                }
            }
        }
    }
    let offset = const { offset::<S>(F::OFFSET) };
    for t in 0..T {
        let d_x = s.splat_f32(x[t].scales[at]);
        for g in 0..G {
            let mut dot = dots[t][g];
            if offset != 0 {
                dot = s.sub(dot, s.mul(pairs[t][g], s.splat(i32::from(offset))));
            }
            let product = s.mul_f32(s.to_f32(dot), s.mul_f32(w[g].d, d_x));
            sums[t][g] = s.add_f32(sums[t][g], product);
            if F::HAS_MIN {
                let min = s.mul_f32(s.to_f32(pairs[t][g]), s.mul_f32(w[g].dmin, d_x));
                sums[t][g] = s.sub_f32(sums[t][g], min);
            }
        }
    }
}
