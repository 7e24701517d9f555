//! Q4_K blocks, one row per vector lane.

use super::Q4K;
use crate::block256::rows::{RowBlocks, Rows256, Run, unpack_header};
use crate::simd::{LaneRows, Simd};

impl Rows256 for Q4K {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 32;
    const GROUPS_PER_SUM: usize = 2;

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        unpack_header(s, rows, at, block);
    }

    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        let mask = s.splat(0x0f0f_0f0f);
        let mut u = [mask; 16];
        for half in 0..2 {
            let words = s.transpose(rows, at + 16 + 32 * run + 16 * half);
            for (j, word) in words.into_iter().enumerate() {
                u[4 * half + j] = s.and(word, mask);
                u[4 * half + j + 8] = s.and(s.shr(word, 4), mask);
            }
        }
        u
    }
}
