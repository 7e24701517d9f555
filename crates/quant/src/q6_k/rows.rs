//! Q6_K blocks, one row per vector lane.

use super::Q6K;
use crate::block256::rows::{RowBlocks, Rows256, pack_pairs, widen_signed_bytes};
use crate::simd::{Rows, Simd};

impl Rows256 for Q6K {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 16;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize, block: &mut RowBlocks<S>) {
        block.scales = widen_signed_bytes(s, s.transpose(rows, at + 192));
        block.pairs = pack_pairs(s, &block.scales);
        block.d = s.load_f16_of_rows(rows, at + 208);
        let (low, two) = (s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
        let join = |nibbles, high| s.or(s.and(nibbles, low), s.and(high, two));
        for half in 0..2 {
            for part in 0..2 {
                let high = s.transpose(rows, at + 128 + 32 * half + 16 * part);
                let first = s.transpose(rows, at + 64 * half + 16 * part);
                let second = s.transpose(rows, at + 64 * half + 32 + 16 * part);
                for j in 0..4 {
                    let to = 32 * half + 4 * part + j;
                    let (first, second, high) = (first[j], second[j], high[j]);
                    block.u[to] = join(first, s.shl(high, 4));
                    block.u[to + 8] = join(second, s.shl(high, 2));
                    block.u[to + 16] = join(s.shr(first, 4), high);
                    block.u[to + 24] = join(s.shr(second, 4), s.shr(high, 2));
                }
            }
        }
    }
}
