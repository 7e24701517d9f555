//! IQ4_XS blocks, one row per vector lane.

use super::IQ4XS;
use crate::block256::PAIRS;
use crate::block256::rows::{RowBlocks, Rows256};
use crate::iq4_nl::LEVELS;
use crate::simd::{Rows, Simd};

impl Rows256 for IQ4XS {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 32;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        let [d_high, low, ..] = s.transpose(rows, at);
        block.d = s.f16_to_f32(d_high);
        for j in 0..PAIRS {
            let low = s.and(s.shr(low, 4 * j as u32), s.splat(15));
            let high = s.and(s.shr(d_high, 16 + 2 * j as u32), s.splat(3));
            let scale = s.sub(s.or(low, s.shl(high, 4)), s.splat(32));
            block.scales[2 * j] = scale;
            block.pairs[j] = s.or(s.and(scale, s.splat(0xffff)), s.shl(scale, 16));
        }
        let mask = s.splat(0x0f0f_0f0f);
        for run in 0..8 {
            let words = s.transpose(rows, at + 8 + 16 * run);
            for (j, word) in words.into_iter().enumerate() {
                block.u[8 * run + j] = s.lookup(&LEVELS, s.and(word, mask));
                block.u[8 * run + 4 + j] = s.lookup(&LEVELS, s.and(s.shr(word, 4), mask));
            }
        }
    }
}
