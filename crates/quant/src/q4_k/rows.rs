//! Q4_K blocks, one row per vector lane.

use super::Q4K;
use crate::block256::rows::{RowBlocks, Rows256, unpack_header};
use crate::simd::{Rows, Simd};

impl Rows256 for Q4K {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 32;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        unpack_header(s, rows, at, block);
        let mask = s.splat(0x0f0f_0f0f);
        for run in 0..4 {
            for half in 0..2 {
                let words = s.transpose(rows, at + 16 + 32 * run + 16 * half);
                for (j, word) in words.into_iter().enumerate() {
                    let to = 16 * run + 4 * half + j;
                    block.u[to] = s.and(word, mask);
                    block.u[to + 8] = s.and(s.shr(word, 4), mask);
                }
            }
        }
    }
}
