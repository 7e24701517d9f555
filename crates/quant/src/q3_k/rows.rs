//! Q3_K blocks, one row per vector lane.

use super::Q3K;
use crate::block256::rows::{
    RowBlocks, Rows256, Run, group_of_quarters, pack_pairs, place, unpack_two_bits, widen_bytes,
};
use crate::packing::Order;
use crate::simd::{LaneRows, Simd};

impl Rows256 for Q3K {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 16;
    const ORDER: Order = Order {
        scale: Some((108, 110)),
        dwords: &[
            (96, 108), // scales, then for each run two bits, and third bits with the first two
            (0, 16),
            (32, 48),
            (16, 32),
            (48, 64),
            (64, 80),
            (80, 96),
        ],
    };

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        // Twelve bytes of scales: three of four words, which in GGUF only an f16 follows.
        let [a, b, high] = if S::PACKED {
            let [a, b, high, _] = s.transpose(rows, at + place::<S, Self>(96));
            [a, b, high]
        } else {
            let [_, a, b, high] = s.transpose(rows, at + 92);
            [a, b, high]
        };
        let (four, two) = (s.splat(0x0f0f_0f0f), s.splat(0x0303_0303));
        let high = |i: u32| s.shl(s.and(s.shr(high, 2 * i), two), 4);
        let words = [
            s.or(s.and(a, four), high(0)),
            s.or(s.and(b, four), high(1)),
            s.or(s.and(s.shr(a, 4), four), high(2)),
            s.or(s.and(s.shr(b, 4), four), high(3)),
        ];
        block.scales = widen_bytes(s, words);
        for scale in &mut block.scales {
            *scale = s.sub(*scale, s.splat(32));
        }
        block.pairs = pack_pairs::<S, Self>(s, &block.scales);
        let d_at = if S::PACKED { at } else { at + 108 };
        block.d = s.load_f16_of_rows(rows, d_at);
    }

    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        let (half, part) = (run / 2, run % 2);
        let one = s.splat(0x0101_0101);
        let bits = s.transpose(rows, at + place::<S, Self>(16 * part));
        let mut u = unpack_two_bits(s, rows, at + place::<S, Self>(32 + 16 * run));
        for i in 0..4 {
            for j in 0..4 {
                let third = s.and(s.shr(bits[j], (4 * half + i) as u32), one);
                u[4 * i + j] = s.or(u[4 * i + j], s.shl(third, 2));
            }
        }
        u
    }

    #[inline(always)]
    fn group(run: usize, i: usize) -> usize {
        group_of_quarters(run, i)
    }
}
