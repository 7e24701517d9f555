//! IQ4_NL blocks, one row per vector lane.

use super::{IQ4NL, levels};
use crate::block32::rows::{RowBlocks, Rows32, nibbles};
use crate::simd::{LaneRows, Simd, sign_bit};

impl Rows32 for IQ4NL {
    const WIDE: bool = true;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, _part: usize) -> RowBlocks<S> {
        let levels = const { levels(sign_bit::<S>()) };
        let mut u = nibbles(s, rows, at + 2);
        for u in &mut u {
            *u = s.lookup(&levels, *u);
        }
        RowBlocks { u, d: s.load_f16_of_rows(rows, at), m: s.splat_f32(0.0) }
    }
}
