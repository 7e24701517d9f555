//! Q5_K blocks, one row per vector lane.

use super::Q5K;
use crate::block256::rows::{RowBlocks, Rows256, unpack_header};
use crate::simd::{Rows, Simd};

impl Rows256 for Q5K {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 32;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        unpack_header(s, rows, at, block);
        let (low, one) = (s.splat(0x0f0f_0f0f), s.splat(0x0101_0101));
        for half in 0..2 {
            let bits = s.transpose(rows, at + 16 + 16 * half);
            for run in 0..4 {
                let words = s.transpose(rows, at + 48 + 32 * run + 16 * half);
                for (j, word) in words.into_iter().enumerate() {
                    let to = 16 * run + 4 * half + j;
                    let fifth =
                        |i: usize| s.shl(s.and(s.shr(bits[j], (2 * run + i) as u32), one), 4);
                    block.u[to] = s.or(s.and(word, low), fifth(0));
                    block.u[to + 8] = s.or(s.and(s.shr(word, 4), low), fifth(1));
                }
            }
        }
    }
}
