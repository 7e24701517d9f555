//! Q2_K blocks, one row per vector lane.

use super::Q2K;
use crate::block256::rows::{RowBlocks, Rows256, pack_pairs, widen_bytes};
use crate::simd::{Rows, Simd};

impl Rows256 for Q2K {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 16;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        let [a, b, c, d] = s.transpose(rows, at);
        let (four, two) = (s.splat(0x0f0f_0f0f), s.splat(0x0303_0303));
        let low = |word| s.and(word, four);
        block.scales = widen_bytes(s, [low(a), low(b), low(c), low(d)]);
        let high = |word| s.and(s.shr(word, 4), four);
        let mins = widen_bytes(s, [high(a), high(b), high(c), high(d)]);
        block.pairs = pack_pairs(s, &mins);
        // The last word of these sixteen bytes is `d` and `dmin`.
        let [.., d] = s.transpose(rows, at + 68);
        block.d = s.f16_to_f32(d);
        block.dmin = s.f16_to_f32(s.shr(d, 16));
        for half in 0..2 {
            for part in 0..2 {
                let words = s.transpose(rows, at + 16 + 32 * half + 16 * part);
                for (j, word) in words.into_iter().enumerate() {
                    for run in 0..4 {
                        block.u[32 * half + 8 * run + 4 * part + j] =
                            s.and(s.shr(word, 2 * run as u32), two);
                    }
                }
            }
        }
    }
}
