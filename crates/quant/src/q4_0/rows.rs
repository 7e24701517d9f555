//! Q4_0 blocks, one row per vector lane.

use super::Q4_0;
use crate::block32::rows::{RowBlocks, Rows32, nibbles};
use crate::simd::{LaneRows, Simd};

impl Rows32 for Q4_0 {
    const WIDE: bool = false;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        RowBlocks {
            u: nibbles(s, rows, at + 2),
            d: s.load_f16_of_rows(rows, at),
            m: s.splat_f32(0.0),
        }
    }
}
