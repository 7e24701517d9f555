//! TQ1_0 blocks, one row per vector lane.

use super::TQ1_0;
use crate::block256::rows::{RowBlocks, Rows256, set_unit_scales};
use crate::simd::{LaneRows, Simd};

impl Rows256 for TQ1_0 {
    const WIDE: bool = false;
    const SCALE_LEN: usize = 32;
    const HAS_RUNS: bool = false;

    #[inline(always)]
    fn unpack_rows<S: Simd>(s: S, rows: &LaneRows<'_>, at: usize, block: &mut RowBlocks<S>) {
        set_unit_scales(s, block);
        block.d = s.load_f16_of_rows(rows, at + 52);
        for part in 0..2 {
            for (j, word) in s.transpose(rows, at + 16 * part).into_iter().enumerate() {
                for (place, digits) in digits(s, word).into_iter().enumerate() {
                    block.u[8 * place + 4 * part + j] = digits;
                }
            }
        }
        for (j, word) in s.transpose(rows, at + 32).into_iter().enumerate() {
            for (place, digits) in digits(s, word).into_iter().enumerate() {
                block.u[40 + 4 * place + j] = digits;
            }
        }
        // The last four bytes of digits are the last word of these sixteen.
        let [.., word] = s.transpose(rows, at + 36);
        for (place, digits) in digits(s, word).into_iter().take(4).enumerate() {
            block.u[60 + place] = digits;
        }
    }
}

/// The first five digits of each byte.
#[inline(always)]
fn digits<S: Simd>(s: S, bytes: S::I) -> [S::I; 5] {
    let three = s.splat(0x0003_0003);
    // Bytes with an even and an odd place, each the upper half of 16 bits of its own: the
    // high half of a product is then the digit, the low half what remains.
    let mask = s.splat(0xff00_ff00_u32 as i32);
    let (mut even, mut odd) = (s.and(s.shl(bytes, 8), mask), s.and(bytes, mask));
    let mut digits = [bytes; 5];
    for digit in &mut digits {
        let (even_digit, odd_digit) = (s.mul_high_u16(even, three), s.mul_high_u16(odd, three));
        *digit = s.or(even_digit, s.shl(odd_digit, 8));
        (even, odd) = (s.mul_u16(even, three), s.mul_u16(odd, three));
    }
    digits
}
