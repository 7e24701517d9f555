//! TQ2_0 blocks, one row per vector lane.

use super::TQ2_0;
use crate::block256::rows::{
    RowBlocks, Rows256, Run, group_of_quarters, set_unit_scales, unpack_two_bits,
};
use crate::simd::{LaneRows, Simd};

impl Rows256 for TQ2_0 {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 32;

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        set_unit_scales(s, block);
        block.d = s.load_f16_of_rows(rows, at + 64);
    }

    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        unpack_two_bits(s, rows, at + 16 * run)
    }

    #[inline(always)]
    fn group(run: usize, i: usize) -> usize {
        group_of_quarters(run, i)
    }
}
