//! Q5_1 blocks, one row per vector lane.

use super::Q5_1;
use crate::block32::rows::{RowBlocks, Rows32, add_fifth_bits, nibbles};
use crate::simd::{LaneRows, Simd};

impl Rows32 for Q5_1 {
    const WIDE: bool = true;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        let [d_m, bits, ..] = s.transpose(rows, at);
        let mut u = nibbles(s, rows, at + 8);
        add_fifth_bits(s, &mut u, bits);
        RowBlocks { u, d: s.f16_to_f32(d_m), m: s.f16_to_f32(s.shr(d_m, 16)) }
    }
}
