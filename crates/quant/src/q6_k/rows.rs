//! Q6_K blocks, one row per vector lane.

use super::Q6K;
use crate::block256::GROUPS;
use crate::block256::rows::{RowBlocks, Rows256, pack_pairs};
use crate::simd::{Rows, Simd};

impl Rows256 for Q6K {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 16;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        let words: [_; 4] = s.transpose(rows, at + 192);
        for j in 0..GROUPS {
            block.scales[j] = s.sar(s.shl(words[j / 4], 24 - 8 * (j as u32 % 4)), 24);
        }
        block.pairs = pack_pairs(s, &block.scales);
        block.d = s.load_f16_of_rows(rows, at + 208);
        let (low, two) = (s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
        for half in 0..2 {
            for part in 0..2 {
                let high = s.transpose(rows, at + 128 + 32 * half + 16 * part);
                // Bits 2s and 2s+1 of each byte, moved to bits 4 and 5.
                let high = |j: usize, run: usize| {
                    let v = high[j];
                    s.and([s.shl(v, 4), s.shl(v, 2), v, s.shr(v, 2)][run], two)
                };
                for run in 0..2 {
                    let words = s.transpose(rows, at + 64 * half + 32 * run + 16 * part);
                    for (j, word) in words.into_iter().enumerate() {
                        let to = 32 * half + 8 * run + 4 * part + j;
                        block.u[to] = s.or(s.and(word, low), high(j, run));
                        block.u[to + 16] = s.or(s.and(s.shr(word, 4), low), high(j, run + 2));
                    }
                }
            }
        }
    }
}
