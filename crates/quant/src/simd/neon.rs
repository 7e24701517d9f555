//! AArch64 vectors of 128 bits: 4 rows per vector.
//!
//! Bytes are multiplied as signed ones, since that is what the instructions do that
//! sum products ([`DotProd`], [`I8mm`]).

mod products;

use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

use self::products::{Products, Sdot, Smmla, Widening};
use super::{FloatSimd, Job, LaneRows, MAX_LANES, Simd, operations};
use crate::cpu::InstructionSet;

/// Proof that the CPU has the instructions of `P`.
///
/// With `PACKED`, weights are groups of rows as [`Kernel::pack`](crate::Kernel::pack)
/// interleaves them.
#[derive(Clone, Copy)]
pub(crate) struct Neon<const PACKED: bool = false, P = Widening>(PhantomData<P>);

/// The same with dot products of bytes.
pub(crate) type DotProd<const PACKED: bool = false> = Neon<PACKED, Sdot>;

/// The same with products of matrices of bytes.
pub(crate) type I8mm<const PACKED: bool = false> = Neon<PACKED, Smmla>;

// SAFETY: what is used is NEON, which every set of `P` has, and that set's own.
unsafe impl<const PACKED: bool, P: Products> FloatSimd for Neon<PACKED, P> {
    const SET: InstructionSet = P::SET;
    const LANES: usize = 4;
    const SUMS: usize = 24;
    const FLOAT_TILE_TOKENS: usize = 6;

    type F = float32x4_t;

    unsafe fn new_unchecked() -> Self {
        Self(PhantomData)
    }

    #[inline(always)]
    fn run<J: Job<Self>>(self, job: J) -> J::Output {
        P::run(self, job)
    }

    #[inline(always)]
    unsafe fn prefetch(self, address: *const u8) {
        // SAFETY: the instruction changes nothing; any address will do.
        unsafe {
            asm!(
                "prfm pldl2keep, [{address}]",
                address = in(reg) address,
                options(readonly, nostack, preserves_flags),
            );
        }
    }

    operations! {
        fn splat_f32(value: f32) -> float32x4_t = vdupq_n_f32(value);
        fn add_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        fn sub_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        fn mul_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        fn fma_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t =
            vfmaq_f32(c, a, b);
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> float32x4_t {
        let bytes = &bytes[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe { vreinterpretq_f32_u8(vld1q_u8(bytes.as_ptr())) }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> float32x4_t {
        let bytes = &bytes[..8];
        // SAFETY: `self` proves the instructions; 8 bytes can be read.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes.as_ptr()))) }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> float32x4_t {
        let bytes = &bytes[..8];
        // SAFETY: `self` proves the instructions; 8 bytes can be read.
        unsafe {
            let halves = vreinterpret_u16_u8(vld1_u8(bytes.as_ptr()));
            vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))
        }
    }

    #[inline(always)]
    fn store_f32(self, a: float32x4_t, to: &mut [f32]) {
        let to = &mut to[..4];
        // SAFETY: `self` proves the instructions; 4 elements can be written.
        unsafe { vst1q_f32(to.as_mut_ptr(), a) }
    }
}

impl<const PACKED: bool, P: Products> Simd for Neon<PACKED, P> {
    const PACKED: bool = PACKED;
    const TILE_VECTORS: usize = 2;
    const TILE_TOKENS: usize = P::TILE_TOKENS;
    const SIGNED: bool = true;

    type I = int32x4_t;
    type Dot = P::Sum;

    #[inline(always)]
    fn transpose(self, rows: &LaneRows<'_>, at: usize) -> [int32x4_t; 4] {
        if PACKED {
            let group = rows.stream(self, at, 16);
            // SAFETY: `self` proves the instructions; four vectors can be read there.
            return std::array::from_fn(|j| unsafe {
                vreinterpretq_s32_u8(vld1q_u8(group.add(16 * j)))
            });
        }
        // And as much again as the scales of 16 bytes of nibbles have.
        rows.prefetch_some(self, 18 * Self::LANES);
        let row = rows.pointers(at, 16);
        // SAFETY: `self` proves the instructions; 16 bytes can be read at each pointer.
        unsafe {
            let load = |lane: usize| vreinterpretq_s32_u8(vld1q_u8(row(lane)));
            let (a, b, c, d) = (load(0), load(1), load(2), load(3));
            // Dwords 0 and 2 of two rows side by side, then 1 and 3.
            let pair =
                |a, b| [vtrn1q_s32(a, b), vtrn2q_s32(a, b)].map(|v| vreinterpretq_s64_s32(v));
            let ([ab_even, ab_odd], [cd_even, cd_odd]) = (pair(a, b), pair(c, d));
            [
                vtrn1q_s64(ab_even, cd_even),
                vtrn1q_s64(ab_odd, cd_odd),
                vtrn2q_s64(ab_even, cd_even),
                vtrn2q_s64(ab_odd, cd_odd),
            ]
            .map(|v| vreinterpretq_s32_s64(v))
        }
    }

    #[inline(always)]
    fn gather_f16(self, rows: &LaneRows<'_>, at: usize) -> float32x4_t {
        let row = rows.pointers(at, 2);
        // SAFETY: two bytes can be read at each pointer.
        let half = |lane: usize| unsafe { row(lane).cast::<[u8; 2]>().read() };
        self.load_f16([half(0), half(1), half(2), half(3)].as_flattened())
    }

    #[inline(always)]
    fn load_words_of_rows(self, rows: &LaneRows<'_>, at: usize) -> int32x4_t {
        let row = rows.pointers(at, 4);
        // SAFETY: four bytes can be read at each pointer.
        self.collect_fours(|lane| unsafe { &*row(lane).cast() })
    }

    operations! {
        fn splat(value: i32) -> int32x4_t = vdupq_n_s32(value);
        fn and(a: int32x4_t, b: int32x4_t) -> int32x4_t = vandq_s32(a, b);
        fn or(a: int32x4_t, b: int32x4_t) -> int32x4_t = vorrq_s32(a, b);
        fn xor(a: int32x4_t, b: int32x4_t) -> int32x4_t = veorq_s32(a, b);
        fn shl(a: int32x4_t, bits: u32) -> int32x4_t = vshlq_s32(a, vdupq_n_s32(bits as i32));
        fn shr(a: int32x4_t, bits: u32) -> int32x4_t = vreinterpretq_s32_u32(vshlq_u32(
            vreinterpretq_u32_s32(a),
            vdupq_n_s32(-(bits as i32)),
        ));
        fn sar(a: int32x4_t, bits: u32) -> int32x4_t = vshlq_s32(a, vdupq_n_s32(-(bits as i32)));
        fn add(a: int32x4_t, b: int32x4_t) -> int32x4_t = vaddq_s32(a, b);
        fn sub(a: int32x4_t, b: int32x4_t) -> int32x4_t = vsubq_s32(a, b);
        fn mul(a: int32x4_t, b: int32x4_t) -> int32x4_t = vmulq_s32(a, b);
        fn dot_zero() -> P::Sum = P::zero();
        fn dot(wide: bool, sum: P::Sum, u: int32x4_t, q: int32x4_t) -> P::Sum =
            P::add(wide, sum, u, q);
        fn dot_sum(wide: bool, sum: P::Sum) -> int32x4_t = P::total(wide, sum);
        fn to_f32(a: int32x4_t) -> float32x4_t = vcvtq_f32_s32(a);
        fn f32_from_bits(a: int32x4_t) -> float32x4_t = vreinterpretq_f32_s32(a);
        fn f16_to_f32(a: int32x4_t) -> float32x4_t =
            vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32(a)));
    }

    #[inline(always)]
    fn dots<const G: usize, const T: usize>(
        self,
        wide: bool,
        w: [&[int32x4_t]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[int32x4_t; G]; T] {
        // SAFETY: `self` proves the instructions.
        unsafe { P::dots(self, wide, w, x) }
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[i8]) -> int32x4_t {
        let bytes = &bytes[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe { vreinterpretq_s32_s8(vld1q_s8(bytes.as_ptr())) }
    }

    #[inline(always)]
    fn store_bytes(self, a: int32x4_t, to: &mut [u8]) {
        let to = &mut to[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be written.
        unsafe { vst1q_u8(to.as_mut_ptr(), vreinterpretq_u8_s32(a)) }
    }

    #[inline(always)]
    fn dot_eight(self, sum: int32x4_t, a: &[i32; 8], b: &[i32; 8]) -> int32x4_t {
        let (a, b): (&[i8], &[i8]) = (bytemuck::cast_slice(a), bytemuck::cast_slice(b));
        let first = self.dot_i16(sum, self.load_bytes(a), self.load_bytes(b));
        self.dot_i16(first, self.load_bytes(&a[16..]), self.load_bytes(&b[16..]))
    }

    #[inline(always)]
    fn collect_eights<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 8]) -> int32x4_t {
        // SAFETY: `self` proves the instructions; eight bytes can be read at each pointer.
        unsafe {
            let (first, second) = (vld1_u8(bytes(0).as_ptr()), vld1_u8(bytes(1).as_ptr()));
            vreinterpretq_s32_u8(vcombine_u8(first, second))
        }
    }

    #[inline(always)]
    fn collect_fours<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 4]) -> int32x4_t {
        let four = |i| i32::from_le_bytes(*bytes(i));
        // SAFETY: `self` proves the instructions.
        unsafe {
            let v = vdupq_n_s32(four(0));
            let v = vsetq_lane_s32::<1>(four(1), v);
            let v = vsetq_lane_s32::<2>(four(2), v);
            vsetq_lane_s32::<3>(four(3), v)
        }
    }

    #[inline(always)]
    fn repeat_i16(self, numbers: &[i16; 16], at: usize) -> int32x4_t {
        // SAFETY: `self` proves the instructions.
        unsafe { vreinterpretq_s32_s16(vdupq_n_s16(numbers[at])) }
    }

    #[inline(always)]
    fn select(self, bits: &[u8], a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let copies = vcombine_u8(vdup_n_u8(bits[0]), vdup_n_u8(bits[1]));
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let mask = vreinterpretq_u32_u8(vtstq_u8(copies, bit));
            vbslq_s32(mask, a, b)
        }
    }

    #[inline(always)]
    fn sum_each(self, vectors: &[int32x4_t; MAX_LANES]) -> int32x4_t {
        let [a, b, c, d, ..] = *vectors;
        // SAFETY: `self` proves the instructions.
        unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], indices: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe {
            let table = vld1q_u8(table.as_ptr());
            vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(indices)))
        }
    }

    #[inline(always)]
    fn products(self, u: int32x4_t, q: int32x4_t) -> int32x4_t {
        let (u, q) = (bytes(u), bytes(q));
        // SAFETY: `self` proves the instructions.
        unsafe {
            let low = vmull_s8(vget_low_s8(u), vget_low_s8(q));
            vreinterpretq_s32_s16(vpaddq_s16(low, vmull_high_s8(u, q)))
        }
    }

    #[inline(always)]
    fn mul_u16(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let product = vmulq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b));
            vreinterpretq_s32_u16(product)
        }
    }

    #[inline(always)]
    fn mul_high_u16(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let (a, b) = (vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b));
            let low = vmull_u16(vget_low_u16(a), vget_low_u16(b));
            let high = vmull_high_u16(a, b);
            let halves = vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high));
            vreinterpretq_s32_u16(halves)
        }
    }

    #[inline(always)]
    fn dot_i16(self, sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(a, b)))
        }
    }

    #[inline(always)]
    fn load_u8(self, bytes: &[u8]) -> int32x4_t {
        let four = [bytes[0], bytes[1], bytes[2], bytes[3]];
        // SAFETY: `self` proves the instructions; 4 numbers can be read.
        unsafe { vld1q_s32(four.map(i32::from).as_ptr()) }
    }
}

/// A vector as bytes.
#[inline(always)]
fn bytes(v: int32x4_t) -> int8x16_t {
    // SAFETY: every CPU has the vectors; this makes no instruction.
    unsafe { vreinterpretq_s8_s32(v) }
}

/// The first sixteen values.
#[inline(always)]
fn load_sixteen(values: &[[i8; 4]]) -> int32x4_t {
    let values = values[..4].as_flattened();
    // SAFETY: every CPU has the instruction; 16 bytes can be read.
    unsafe { vreinterpretq_s32_s8(vld1q_s8(values.as_ptr())) }
}
