//! NVFP4 blocks, one row per vector lane.

use std::ops::Range;

use super::{LEN, PART_BYTES, PARTS, UNBIAS, VALUES_AT};
use crate::ActivationView;
use crate::activations::{Blocks, four};
use crate::mxfp4::{LEVELS, OFFSET};
use crate::rows::RowFormat;
use crate::simd::{LaneRows, Simd};

/// The same 32 values of `S::LANES` rows.
#[derive(Clone, Copy)]
pub(crate) struct RowParts<S: Simd> {
    /// Values before scale and offset; vector `j` holds 4j..4j+4.
    u: [S::I; LEN / 4],
    scales: [S::F; 2],
}

/// The rows of this format.
pub(crate) struct FormatRows;

impl RowFormat for FormatRows {
    type Block<S: Simd> = RowParts<S>;
    const LEN: usize = LEN;
    const PARTS: usize = PARTS;
    type Activations<'a> = Blocks<'a, LEN, 1>;

    #[inline(always)]
    fn empty<S: Simd>(s: S) -> RowParts<S> {
        RowParts { u: [s.splat(0); LEN / 4], scales: [s.splat_f32(0.0); 2] }
    }

    #[inline(always)]
    fn unpack<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, part: usize, block: &mut RowParts<S>) {
        let bytes = s.load_words_of_rows(rows, at);
        for (group, scale) in block.scales.iter_mut().enumerate() {
            let byte = s.shr(bytes, 8 * (2 * part + group) as u32);
            *scale = half_of_ue4m3(s, s.and(byte, s.splat(0xff)));
        }
        let mask = s.splat(0x0f0f_0f0f);
        let words: [_; 4] = s.transpose(rows, at + VALUES_AT + PART_BYTES * part);
        for (j, word) in words.into_iter().enumerate() {
            // Of each group, two words are the first 8 values and the last 8.
            let to = j / 2 * 4 + j % 2;
            block.u[to] = s.lookup(&LEVELS, s.and(word, mask));
            block.u[to + 2] = s.lookup(&LEVELS, s.and(s.shr(word, 4), mask));
        }
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
        w: [&RowParts<S>; G],
        x: &[Self::Activations<'_>; T],
        at: usize,
        sums: &mut [[S::F; G]; T],
    ) {
        let offset = s.splat_bytes([OFFSET as i8; 4]);
        for t in 0..T {
            let d_x = s.splat_f32(x[t].scales[at]);
            let mut totals = [s.splat_f32(0.0); G];
            for group in 0..2 {
                let mut offsets = s.dot_zero();
                let mut dots = [s.dot_zero(); G];
                for j in 4 * group..4 * group + 4 {
                    let q = s.splat_bytes(four(&x[t].quants[at], j));
                    offsets = s.dot(true, offsets, offset, q);
                    for g in 0..G {
                        dots[g] = s.dot(true, dots[g], w[g].u[j], q);
                    }
                }
                let offsets = s.dot_sum(true, offsets);
                for g in 0..G {
                    let dot = s.to_f32(s.sub(s.dot_sum(true, dots[g]), offsets));
                    let scaled = s.mul_f32(dot, w[g].scales[group]);
                    totals[g] = if group == 0 { scaled } else { s.add_f32(totals[g], scaled) };
                }
            }
            for g in 0..G {
                sums[t][g] = s.add_f32(sums[t][g], s.mul_f32(totals[g], d_x));
            }
        }
    }
}

/// The scale that a byte in each lane stands for.
#[inline(always)]
fn half_of_ue4m3<S: Simd>(s: S, byte: S::I) -> S::F {
    // All ones, or zero where the byte is 0x7f.
    let differs = s.shr(s.add(s.xor(byte, s.splat(0x7f)), s.splat(0xff)), 8);
    let keep = s.sub(s.splat(0), differs);
    let bits = s.and(s.shl(s.and(byte, s.splat(0x7f)), 20), keep);
    s.mul_f32(s.f32_from_bits(bits), s.splat_f32(UNBIAS))
}
