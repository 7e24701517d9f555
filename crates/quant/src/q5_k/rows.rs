//! Q5_K blocks, one row per vector lane.

use super::Q5K;
use crate::block256::rows::{RowBlocks, Rows256, Run, place, unpack_header};
use crate::packing::Order;
use crate::simd::{LaneRows, Simd};

impl Rows256 for Q5K {
    const WIDE: bool = true;
    const BELOW_64: bool = true;
    const SCALE_LEN: usize = 32;
    const ORDER: Order = Order {
        scale: None,
        dwords: &[
            (0, 16), // scales, then for each half its fifth bits and four times low bits
            (16, 32),
            (48, 64),
            (80, 96),
            (112, 128),
            (144, 160),
            (32, 48),
            (64, 80),
            (96, 112),
            (128, 144),
            (160, 176),
        ],
    };

    #[inline(always)]
    fn unpack_scales<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        unpack_header(s, rows, at, block);
    }

    /// One half of the fifth bits, and two of the four runs of bytes that take them.
    #[inline(always)]
    fn unpack_run<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, run: usize) -> Run<S> {
        let (half, first) = (run / 2, run % 2 * 2);
        let (low, one) = (s.splat(0x0f0f_0f0f), s.splat(0x0101_0101));
        let words = |byte: usize| s.transpose(rows, at + place::<S, Self>(byte));
        let bits = words(16 + 16 * half);
        let mut u = [low; 16];
        for i in 0..2 {
            let words = words(48 + 32 * (first + i) + 16 * half);
            for (j, word) in words.into_iter().enumerate() {
                let place = 2 * (first + i) as u32;
                let fifth = |bits: S::I| s.shl(s.and(bits, one), 4);
                u[8 * i + j] = s.or(s.and(word, low), fifth(s.shr(bits[j], place)));
                u[8 * i + 4 + j] =
                    s.or(s.and(s.shr(word, 4), low), fifth(s.shr(bits[j], place + 1)));
            }
        }
        u
    }

    #[inline(always)]
    fn group(run: usize, i: usize) -> usize {
        let (half, first) = (run / 2, run % 2 * 2);
        4 * (first + i / 2) + 2 * (i % 2) + half
    }
}
