//! How products of bytes are summed: what AArch64 CPUs differ in.
//!
//! `sdot` and `smmla` are written as assembly, as the compiler has no stable names for
//! them yet.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Neon, bytes, load_sixteen};
use crate::cpu::InstructionSet;
use crate::simd::{Job, dots_in_order};

/// How products of bytes are summed, and what goes with it.
///
/// # Safety
///
/// [`SET`](Self::SET) names every instruction that the functions use, NEON among them.
pub(crate) unsafe trait Products: Copy {
    /// See [`FloatSimd::SET`](crate::simd::FloatSimd::SET).
    const SET: InstructionSet;
    /// See [`Simd::TILE_TOKENS`].
    const TILE_TOKENS: usize;
    /// See [`Simd::Dot`].
    type Sum: Copy;

    /// Runs `job` as code of the instruction set.
    fn run<J: Job<Neon<PACKED, Self>>, const PACKED: bool>(
        s: Neon<PACKED, Self>,
        job: J,
    ) -> J::Output;

    /// See [`Simd::dot_zero`].
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of [`SET`](Self::SET).
    unsafe fn zero() -> Self::Sum;
    /// See [`Simd::dot`].
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of [`SET`](Self::SET).
    unsafe fn add(wide: bool, sum: Self::Sum, u: int32x4_t, q: int32x4_t) -> Self::Sum;
    /// See [`Simd::dot_sum`].
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of [`SET`](Self::SET).
    unsafe fn total(wide: bool, sum: Self::Sum) -> int32x4_t;
    /// See [`Simd::dots`]; numbers of vectors are multiples of 4.
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of [`SET`](Self::SET).
    unsafe fn dots<const PACKED: bool, const G: usize, const T: usize>(
        s: Neon<PACKED, Self>,
        wide: bool,
        w: [&[int32x4_t]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[int32x4_t; G]; T];
}

/// Defines [`Products::run`] with functions compiled for `$features`.
macro_rules! run_with {
    ($features:literal) => {
        #[inline(always)]
        fn run<J: Job<Neon<PACKED, Self>>, const PACKED: bool>(
            s: Neon<PACKED, Self>,
            job: J,
        ) -> J::Output {
            #[inline(never)] // a tile has its registers to itself
            #[target_feature(enable = $features)]
            fn run<S, J: Job<S>>(s: S, job: J) -> J::Output {
                job.run(s)
            }
            // SAFETY: `s` proves that the CPU has the instructions.
            unsafe { run(s, job) }
        }
    };
}

/// Defines a [`Products::Sum`] that `sdot` adds to.
macro_rules! sum_with_sdot {
    () => {
        type Sum = int32x4_t;

        #[inline(always)]
        unsafe fn zero() -> int32x4_t {
            // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
            unsafe { vdupq_n_s32(0) }
        }

        #[inline(always)]
        unsafe fn add(_wide: bool, sum: int32x4_t, u: int32x4_t, q: int32x4_t) -> int32x4_t {
            // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
            unsafe { sdot(sum, u, q) }
        }

        #[inline(always)]
        unsafe fn total(_wide: bool, sum: int32x4_t) -> int32x4_t {
            sum
        }
    };
}

/// What every CPU has: products of 16 bits.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

/// Sums of products of the first and the last two rows in 16 bits, where they fit;
/// else those of all rows in 32.
///
/// Eight products of at most 15 * 127 stay below 2^14.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    low: int16x8_t,
    high: int16x8_t,
    wide: int32x4_t,
}

// SAFETY: what is used is NEON, which the set names.
unsafe impl Products for Widening {
    const SET: InstructionSet = InstructionSet::Neon;
    const TILE_TOKENS: usize = 4;
    type Sum = Sums;

    run_with!("neon");

    #[inline(always)]
    unsafe fn zero() -> Sums {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe { Sums { low: vdupq_n_s16(0), high: vdupq_n_s16(0), wide: vdupq_n_s32(0) } }
    }

    #[inline(always)]
    unsafe fn add(wide: bool, sum: Sums, u: int32x4_t, q: int32x4_t) -> Sums {
        let (u, q) = (bytes(u), bytes(q));
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe {
            let (u_low, q_low) = (vget_low_s8(u), vget_low_s8(q));
            if wide {
                // Sums of two products are at most 2 * 128 * 127, which fits in 16 bits.
                let pairs = vpaddq_s16(vmull_s8(u_low, q_low), vmull_high_s8(u, q));
                return Sums { wide: vpadalq_s16(sum.wide, pairs), ..sum };
            }
            let low = vmlal_s8(sum.low, u_low, q_low);
            Sums { low, high: vmlal_high_s8(sum.high, u, q), ..sum }
        }
    }

    #[inline(always)]
    unsafe fn total(wide: bool, sum: Sums) -> int32x4_t {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe { if wide { sum.wide } else { vpaddlq_s16(vpaddq_s16(sum.low, sum.high)) } }
    }

    #[inline(always)]
    unsafe fn dots<const PACKED: bool, const G: usize, const T: usize>(
        s: Neon<PACKED, Self>,
        wide: bool,
        w: [&[int32x4_t]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[int32x4_t; G]; T] {
        dots_in_order(s, wide, w, x)
    }
}

/// `sdot`: four products of bytes are added in each lane.
#[derive(Clone, Copy)]
pub(crate) struct Sdot;

// SAFETY: what is used is NEON and `sdot`, which the set names.
unsafe impl Products for Sdot {
    const SET: InstructionSet = InstructionSet::DotProd;
    const TILE_TOKENS: usize = 6;
    sum_with_sdot!();
    run_with!("neon,dotprod");

    #[inline(always)]
    unsafe fn dots<const PACKED: bool, const G: usize, const T: usize>(
        _s: Neon<PACKED, Self>,
        _wide: bool,
        w: [&[int32x4_t]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[int32x4_t; G]; T] {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe { sdots(w, x) }
    }
}

/// `smmla`: eight products of bytes are added for each of two rows and two tokens.
#[derive(Clone, Copy)]
pub(crate) struct Smmla;

// SAFETY: what is used is NEON, `sdot` and `smmla`, which the set names.
unsafe impl Products for Smmla {
    const SET: InstructionSet = InstructionSet::I8mm;
    const TILE_TOKENS: usize = 6;
    sum_with_sdot!();
    run_with!("neon,dotprod,i8mm");

    #[inline(always)]
    unsafe fn dots<const PACKED: bool, const G: usize, const T: usize>(
        _s: Neon<PACKED, Self>,
        _wide: bool,
        w: [&[int32x4_t]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[int32x4_t; G]; T] {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe { if const { T == 1 } { sdots(w, x) } else { smmlas(w, x) } }
    }
}

/// [`Products::dots`], with activations taken from a vector lane by lane.
///
/// # Safety
///
/// The CPU has `sdot`.
#[inline(always)]
unsafe fn sdots<const G: usize, const T: usize>(
    w: [&[int32x4_t]; G],
    x: [&[[i8; 4]]; T],
) -> [[int32x4_t; G]; T] {
    // SAFETY: the CPU has NEON and `sdot`, as whoever calls makes sure.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); G]; T];
        for j in (0..w[0].len()).step_by(4) {
            let x = x.map(|x| load_sixteen(&x[j..]));
            macro_rules! lanes {
                ($($lane:literal)*) => {$(
                    for t in 0..T {
                        for g in 0..G {
                            sums[t][g] = sdot_lane::<$lane>(sums[t][g], w[g][j + $lane], x[t]);
                        }
                    }
                )*};
            }
            lanes!(0 1 2 3);
        }
        sums
    }
}

/// [`Products::dots`] by two rows and two tokens; an odd token is its own neighbour.
///
/// # Safety
///
/// The CPU has `smmla`.
#[inline(always)]
unsafe fn smmlas<const G: usize, const T: usize>(
    w: [&[int32x4_t]; G],
    x: [&[[i8; 4]]; T],
) -> [[int32x4_t; G]; T] {
    // SAFETY: the CPU has NEON and `smmla`, as whoever calls makes sure.
    unsafe {
        // For every pair of tokens and vector of rows, both halves of the rows.
        let mut sums = [[[vdupq_n_s32(0); 2]; G]; T];
        for j in (0..w[0].len()).step_by(4) {
            // Eight values of the first two rows, then of the other two; eight more.
            let rows = w.map(|w| {
                let (a, b, c, d) = (w[j], w[j + 1], w[j + 2], w[j + 3]);
                [[vzip1q_s32(a, b), vzip2q_s32(a, b)], [vzip1q_s32(c, d), vzip2q_s32(c, d)]]
            });
            for (pair, sums) in sums.iter_mut().take(T.div_ceil(2)).enumerate() {
                let token = |t: usize| vreinterpretq_s64_s32(load_sixteen(&x[t.min(T - 1)][j..]));
                let (even, odd) = (token(2 * pair), token(2 * pair + 1));
                let tokens = [vzip1q_s64(even, odd), vzip2q_s64(even, odd)];
                for (eight, tokens) in tokens.into_iter().enumerate() {
                    let tokens = vreinterpretq_s32_s64(tokens);
                    for g in 0..G {
                        for half in 0..2 {
                            let sum = &mut sums[g][half];
                            *sum = smmla(*sum, rows[g][eight][half], tokens);
                        }
                    }
                }
            }
        }
        let mut all = [[vdupq_n_s32(0); G]; T];
        for t in 0..T {
            for g in 0..G {
                let [first, last] = sums[t / 2][g];
                all[t][g] =
                    if t % 2 == 0 { vuzp1q_s32(first, last) } else { vuzp2q_s32(first, last) };
            }
        }
        all
    }
}

/// Adds four products of signed bytes in each lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, u: int32x4_t, q: int32x4_t) -> int32x4_t {
    // SAFETY: the instruction changes nothing but its result.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {u:v}.16b, {q:v}.16b",
            sum = inout(vreg) sum,
            u = in(vreg) u,
            q = in(vreg) q,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds the products of four signed bytes in each lane with those of one lane of `q`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_lane<const LANE: usize>(mut sum: int32x4_t, u: int32x4_t, q: int32x4_t) -> int32x4_t {
    // SAFETY: the instruction changes nothing but its result.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {u:v}.16b, {q:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            u = in(vreg) u,
            q = in(vreg) q,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds the products of two rows of eight signed bytes with two tokens, rows first.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut sum: int32x4_t, rows: int32x4_t, tokens: int32x4_t) -> int32x4_t {
    // SAFETY: the instruction changes nothing but its result.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {rows:v}.16b, {tokens:v}.16b",
            sum = inout(vreg) sum,
            rows = in(vreg) rows,
            tokens = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
