//! Q2_K blocks, one row per vector lane.

use super::Q2K;
use crate::block256::rows::{
    RowBlocks, Rows256, Run, group_of_quarters, pack_pairs, place, unpack_two_bits, widen_bytes,
};
use crate::packing::Order;
use crate::simd::{LaneRows, Simd};

impl Rows256 for Q2K {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 16;
    const ORDER: Order = Order { scale: None, dwords: &[(0, 16), (80, 84), (16, 80)] };

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        let [a, b, c, d] = s.transpose(rows, at);
        let four = s.splat(0x0f0f_0f0f);
        let low = |word| s.and(word, four);
        block.scales = widen_bytes(s, [low(a), low(b), low(c), low(d)]);
        let high = |word| s.and(s.shr(word, 4), four);
        let mins = widen_bytes(s, [high(a), high(b), high(c), high(d)]);
        block.pairs = pack_pairs::<S, Self>(s, &mins);
        // `d` and `dmin` are one word, which in GGUF nothing follows.
        let d = if S::PACKED {
            s.transpose(rows, at + place::<S, Self>(80))[0]
        } else {
            s.transpose(rows, at + 68)[3]
        };
        block.d = s.f16_to_f32(d);
        block.dmin = s.f16_to_f32(s.shr(d, 16));
    }

    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        unpack_two_bits(s, rows, at + place::<S, Self>(16 + 16 * run))
    }

    #[inline(always)]
    fn group(run: usize, i: usize) -> usize {
        group_of_quarters(run, i)
    }
}
