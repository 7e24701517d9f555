//! Q4_1 blocks, one row per vector lane.

use super::Q4_1;
use crate::block32::rows::{RowBlocks, Rows32, nibbles};
use crate::simd::{LaneRows, Simd};

impl Rows32 for Q4_1 {
    const WIDE: bool = false;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        let [d_m, ..] = s.transpose(rows, at);
        RowBlocks {
            u: nibbles(s, rows, at + 4),
            d: s.f16_to_f32(d_m),
            m: s.f16_to_f32(s.shr(d_m, 16)),
        }
    }
}
