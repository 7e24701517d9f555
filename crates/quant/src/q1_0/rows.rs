//! Q1_0 blocks, one row per vector lane.

use super::Q1_0;
use crate::block32::LEN;
use crate::block32::rows::{RowBlocks, Rows32, spread_bits};
use crate::simd::{LaneRows, Simd};

impl Rows32 for Q1_0 {
    const WIDE: bool = false;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, part: usize) -> RowBlocks<S> {
        let bits = s.transpose(rows, at + 2)[part];
        let mut u = [bits; LEN / 4];
        for (j, u) in u.iter_mut().enumerate() {
            *u = s.shl(spread_bits(s, bits, 4 * j as u32), 1);
        }
        RowBlocks { u, d: s.load_f16_of_rows(rows, at), m: s.splat_f32(0.0) }
    }
}
