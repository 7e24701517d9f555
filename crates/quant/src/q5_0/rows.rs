//! Q5_0 blocks, one row per vector lane.

use super::Q5_0;
use crate::block32::rows::{RowBlocks, Rows32, add_fifth_bits, nibbles};
use crate::simd::{LaneRows, Simd};

impl Rows32 for Q5_0 {
    const WIDE: bool = true;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        let [bits, ..] = s.transpose(rows, at + 2);
        let mut u = nibbles(s, rows, at + 6);
        add_fifth_bits(s, &mut u, bits);
        RowBlocks { u, d: s.load_f16_of_rows(rows, at), m: s.splat_f32(0.0) }
    }
}
