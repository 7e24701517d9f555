//! Q8_0 blocks, one row per vector lane.

use super::Q8_0;
use crate::block32::rows::{RowBlocks, Rows32};
use crate::simd::{Rows, Simd};

impl Rows32 for Q8_0 {
    const WIDE: bool = true;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &Rows<'_>, at: usize) -> RowBlocks<S> {
        let [a, b, c, d] = s.transpose(rows, at + 2);
        let [e, f, g, h] = s.transpose(rows, at + 18);
        let unsigned = |q| s.xor(q, s.splat(i32::from_le_bytes([0x80; 4])));
        RowBlocks {
            u: [a, b, c, d, e, f, g, h].map(unsigned),
            d: s.load_f16_of_rows(rows, at),
            m: s.splat_f32(0.0),
        }
    }
}
