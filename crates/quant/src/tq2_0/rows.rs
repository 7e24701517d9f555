//! TQ2_0 blocks, one row per vector lane.

use super::TQ2_0;
use crate::block256::rows::{RowBlocks, Rows256, set_unit_scales};
use crate::simd::{Rows, Simd};

impl Rows256 for TQ2_0 {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 32;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        set_unit_scales(s, block);
        block.d = s.load_f16_of_rows(rows, at + 64);
        let two = s.splat(0x0303_0303);
        for half in 0..2 {
            for part in 0..2 {
                let words = s.transpose(rows, at + 32 * half + 16 * part);
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
