//! IQ4_XS blocks, one row per vector lane.

use super::IQ4XS;
use crate::block256::LEN;
use crate::block256::rows::{RowBlocks, Rows256, Run, pack_pairs};
use crate::iq4_nl::levels;
use crate::simd::{LaneRows, Simd, sign_bit};

impl Rows256 for IQ4XS {
    const WIDE: bool = true;
    const SCALE_LEN: usize = 32;
    const GROUPS_PER_SUM: usize = 2;

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        let [d_high, low, ..] = s.transpose(rows, at);
        block.d = s.f16_to_f32(d_high);
        for j in 0..LEN / Self::SCALE_LEN {
            let low = s.and(s.shr(low, 4 * j as u32), s.splat(15));
            let high = s.and(s.shr(d_high, 16 + 2 * j as u32), s.splat(3));
            let scale = s.sub(s.or(low, s.shl(high, 4)), s.splat(32));
            block.scales[2 * j] = scale;
        }
        block.pairs = pack_pairs::<S, Self>(s, &block.scales);
    }

    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        let mask = s.splat(0x0f0f_0f0f);
        let levels = const { levels(sign_bit::<S>()) };
        let mut u = [mask; 16];
        for i in 0..2 {
            let words = s.transpose(rows, at + 8 + 32 * run + 16 * i);
            for (j, word) in words.into_iter().enumerate() {
                u[8 * i + j] = s.lookup(&levels, s.and(word, mask));
                u[8 * i + 4 + j] = s.lookup(&levels, s.and(s.shr(word, 4), mask));
            }
        }
        u
    }
}
