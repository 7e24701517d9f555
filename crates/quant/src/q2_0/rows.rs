//! Q2_0 blocks, one row per vector lane.

use super::Q2_0;
use crate::block32::LEN;
use crate::block32::rows::{RowBlocks, Rows32};
use crate::simd::{LaneRows, Simd};

impl Rows32 for Q2_0 {
    const WIDE: bool = false;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, part: usize) -> RowBlocks<S> {
        let words: [_; 4] = s.transpose(rows, at + 2);
        let mut u = [words[0]; LEN / 4];
        for (j, u) in u.iter_mut().enumerate() {
            // One byte holds the four values of a lane.
            let byte = s.and(s.shr(words[2 * part + j / 4], 8 * (j as u32 % 4)), s.splat(0xff));
            let low = s.or(byte, s.shl(byte, 6));
            let high = s.or(s.shl(byte, 12), s.shl(byte, 18));
            *u = s.and(s.or(low, high), s.splat(0x0303_0303));
        }
        RowBlocks { u, d: s.load_f16_of_rows(rows, at), m: s.splat_f32(0.0) }
    }
}
