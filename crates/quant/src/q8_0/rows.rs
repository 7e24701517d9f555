//! Q8_0 blocks, one row per vector lane.

use super::Q8_0;
use crate::block32::rows::{RowBlocks, Rows32};
use crate::simd::{LaneRows, Simd, sign_bit};

impl Rows32 for Q8_0 {
    const WIDE: bool = true;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        let [a, b, c, d] = s.transpose(rows, at + 2);
        let [e, f, g, h] = s.transpose(rows, at + 18);
        let mut u = [a, b, c, d, e, f, g, h];
        for u in &mut u {
            *u = s.xor(*u, s.splat(i32::from_le_bytes([sign_bit::<S>(); 4])));
        }
        RowBlocks { u, d: s.load_f16_of_rows(rows, at), m: s.splat_f32(0.0) }
    }
}
