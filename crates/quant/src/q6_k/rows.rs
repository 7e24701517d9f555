//! Q6_K blocks, one row per vector lane.

use super::Q6K;
use crate::block256::rows::{
    RowBlocks, Rows256, Run, group_of_quarters, pack_pairs, place, widen_signed_bytes,
};
use crate::packing::Order;
use crate::simd::{LaneRows, Simd};

impl Rows256 for Q6K {
    const WIDE: bool = true;
    const BELOW_64: bool = true;
    const SCALE_LEN: usize = 16;
    const ORDER: Order = Order {
        scale: Some((208, 210)),
        dwords: &[
            (192, 208), // scales, then for each run high bits and twice low bits
            (128, 144),
            (0, 16),
            (32, 48),
            (144, 160),
            (16, 32),
            (48, 64),
            (160, 176),
            (64, 80),
            (96, 112),
            (176, 192),
            (80, 96),
            (112, 128),
        ],
    };

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        let scales = s.transpose(rows, at + place::<S, Self>(192));
        block.scales = widen_signed_bytes(s, scales);
        block.pairs = pack_pairs::<S, Self>(s, &block.scales);
        let d_at = if S::PACKED { at } else { at + 208 };
        block.d = s.load_f16_of_rows(rows, d_at);
    }

    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        let (half, part) = (run / 2, run % 2);
        let (low, two) = (s.splat(0x0f0f_0f0f), s.splat(0x3030_3030));
        let join = |nibbles, high| s.or(s.and(nibbles, low), s.and(high, two));
        let words = |byte: usize| s.transpose(rows, at + place::<S, Self>(byte));
        let high = words(128 + 32 * half + 16 * part);
        let first = words(64 * half + 16 * part);
        let second = words(64 * half + 32 + 16 * part);
        let mut u = [low; 16];
        for j in 0..4 {
            let (first, second, high) = (first[j], second[j], high[j]);
            u[j] = join(first, s.shl(high, 4));
            u[j + 4] = join(second, s.shl(high, 2));
            u[j + 8] = join(s.shr(first, 4), high);
            u[j + 12] = join(s.shr(second, 4), s.shr(high, 2));
        }
        u
    }

    #[inline(always)]
    fn group(run: usize, i: usize) -> usize {
        group_of_quarters(run, i)
    }
}
