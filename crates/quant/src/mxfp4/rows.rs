//! MXFP4 blocks, one row per vector lane.

use super::{LEVELS, MxFp4};
use crate::block32::rows::{RowBlocks, Rows32, nibbles};
use crate::packing::Order;
use crate::simd::{LaneRows, Simd};

impl Rows32 for MxFp4 {
    const WIDE: bool = true;
    const ORDER: Order = Order { scale: Some((0, 1)), dwords: &[] };

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        let e = s.load_byte_of_rows(rows, at);
        let half = s.shr(e, 1);
        let power = |half| s.f32_from_bits(s.shl(s.add(half, s.splat(63)), 23));
        let d = s.mul_f32(power(half), power(s.sub(e, half)));
        let mut u = nibbles(s, rows, at + 1);
        for u in &mut u {
            *u = s.lookup(&LEVELS, *u);
        }
        RowBlocks { u, d, m: s.splat_f32(0.0) }
    }
}
