//! WebAssembly SIMD: 8 rows per pair of vectors.
//!
//! A pair has two vectors of four lanes, so that both share what is made of the
//! activations. There is no choosing at run time: a module either has the
//! instructions or does not load.

use core::arch::wasm32::*;

use super::{FloatSimd, Job, LaneRows, MAX_LANES, Simd};
use crate::cpu::InstructionSet;

/// Proof that the module was compiled for [`InstructionSet::Simd128`].
///
/// With `PACKED`, weights are groups of rows as [`Kernel::pack`](crate::Kernel::pack)
/// interleaves them.
#[derive(Clone, Copy)]
pub(crate) struct Simd128<const PACKED: bool = false>(());

/// Two vectors, the first one holding the first half of the lanes.
type Pair = [v128; 2];

#[inline(never)] // a tile has its registers to itself
fn run<J: Job<Simd128<PACKED>>, const PACKED: bool>(s: Simd128<PACKED>, job: J) -> J::Output {
    job.run(s)
}

/// Defines operations that do the same to both vectors.
macro_rules! on_both {
    ($(fn $name:ident($($arg:ident),+ $(; $($other:ident: $ty:ty),+)?) = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Pair,)+ $($($other: $ty),+)?) -> Pair {
                std::array::from_fn(|i| {
                    $(let $arg = $arg[i];)+
                    $body
                })
            }
        )*
    };
}

// SAFETY: a module with these instructions does not load where they are missing.
unsafe impl<const PACKED: bool> FloatSimd for Simd128<PACKED> {
    const SET: InstructionSet = InstructionSet::Simd128;
    const LANES: usize = 8;
    const SUMS: usize = 6;
    const FLOAT_TILE_TOKENS: usize = 1;
    const PREFETCH_READS: bool = true;

    type F = Pair;

    unsafe fn new_unchecked() -> Self {
        Self(())
    }

    #[inline(always)]
    fn run<J: Job<Self>>(self, job: J) -> J::Output {
        run(self, job)
    }

    #[inline(always)]
    unsafe fn prefetch(self, address: *const u8) {
        // There is no such instruction, but reading what nobody waits for does it as well.
        // SAFETY: the byte can be read, as whoever calls makes sure.
        unsafe { address.read_volatile() };
    }

    #[inline(always)]
    fn splat_f32(self, value: f32) -> Pair {
        [f32x4_splat(value); 2]
    }

    on_both! {
        fn add_f32(a, b) = f32x4_add(a, b);
        fn sub_f32(a, b) = f32x4_sub(a, b);
        fn mul_f32(a, b) = f32x4_mul(a, b);
        fn fma_f32(a, b, c) = multiply_add(a, b, c);
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Pair {
        load(bytes)
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Pair {
        eight_f16(load_one(bytes))
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Pair {
        let halves = load_one(bytes);
        let zero = i16x8_splat(0);
        [
            i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(zero, halves),
            i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(zero, halves),
        ]
    }

    #[inline(always)]
    fn store_f32(self, a: Pair, to: &mut [f32]) {
        self.store_bytes(a, bytemuck::cast_slice_mut(&mut to[..8]));
    }
}

impl<const PACKED: bool> Simd for Simd128<PACKED> {
    const PACKED: bool = PACKED;
    const TILE_VECTORS: usize = 1;
    const TILE_TOKENS: usize = 4;
    const DIRECT_TOKENS: usize = 1;

    type I = Pair;
    type Dot = Pair;

    #[inline(always)]
    fn transpose(self, rows: &LaneRows<'_>, at: usize) -> [Pair; 4] {
        if PACKED {
            let group = rows.group::<Self>(at, 16).as_ptr().cast::<v128>();
            // SAFETY: eight vectors can be read there.
            let load = |i| unsafe { v128_load(group.add(i)) };
            return std::array::from_fn(|j| [load(2 * j), load(2 * j + 1)]);
        }
        let row = rows.pointers(at, 16);
        // SAFETY: 16 bytes can be read at each pointer.
        let four =
            |first| transpose(std::array::from_fn(|i| unsafe { v128_load(row(first + i).cast()) }));
        let (first, second) = (four(0), four(4));
        std::array::from_fn(|j| [first[j], second[j]])
    }

    #[inline(always)]
    fn gather_f16(self, rows: &LaneRows<'_>, at: usize) -> Pair {
        let row = rows.pointers(at, 2);
        let half = |lane| row(lane).cast::<u16>();
        // SAFETY: two bytes can be read at each pointer.
        eight_f16(unsafe {
            let v = v128_load16_splat(half(0));
            let v = v128_load16_lane::<1>(v, half(1));
            let v = v128_load16_lane::<2>(v, half(2));
            let v = v128_load16_lane::<3>(v, half(3));
            let v = v128_load16_lane::<4>(v, half(4));
            let v = v128_load16_lane::<5>(v, half(5));
            let v = v128_load16_lane::<6>(v, half(6));
            v128_load16_lane::<7>(v, half(7))
        })
    }

    #[inline(always)]
    fn load_words_of_rows(self, rows: &LaneRows<'_>, at: usize) -> Pair {
        let row = rows.pointers(at, 4);
        // SAFETY: four bytes can be read at each pointer.
        self.collect_fours(|lane| unsafe { &*row(lane).cast() })
    }

    #[inline(always)]
    fn splat(self, value: i32) -> Pair {
        [i32x4_splat(value); 2]
    }

    on_both! {
        fn and(a, b) = v128_and(a, b);
        fn or(a, b) = v128_or(a, b);
        fn xor(a, b) = v128_xor(a, b);
        fn shl(a; bits: u32) = i32x4_shl(a, bits);
        fn shr(a; bits: u32) = u32x4_shr(a, bits);
        fn sar(a; bits: u32) = i32x4_shr(a, bits);
        fn add(a, b) = i32x4_add(a, b);
        fn sub(a, b) = i32x4_sub(a, b);
        fn mul(a, b) = i32x4_mul(a, b);
        fn mul_u16(a, b) = i16x8_mul(a, b);
        fn mul_high_u16(a, b) = high_halves(u32x4_extmul_low_u16x8(a, b), u32x4_extmul_high_u16x8(a, b));
        fn products(u, q) = sums_of_products(u, q);
        fn dot_i16(sum, a, b) = i32x4_add(sum, i32x4_dot_i16x8(a, b));
        fn to_f32(a) = f32x4_convert_i32x4(a);
        fn f32_from_bits(a) = a;
        fn f16_to_f32(a) = any_f16(i32x4_shr(i32x4_shl(a, 16), 16));
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[i8]) -> Pair {
        load(bytemuck::cast_slice(&bytes[..32]))
    }

    #[inline(always)]
    fn store_bytes(self, a: Pair, to: &mut [u8]) {
        let to = &mut to[..32];
        // SAFETY: 32 bytes can be written.
        unsafe {
            v128_store(to.as_mut_ptr().cast(), a[0]);
            v128_store(to.as_mut_ptr().cast::<v128>().add(1), a[1]);
        }
    }

    #[inline(always)]
    fn dot_eight(self, sum: Pair, a: &[i32; 8], b: &[i32; 8]) -> Pair {
        self.dot_i16(sum, load(bytemuck::cast_slice(a)), load(bytemuck::cast_slice(b)))
    }

    #[inline(always)]
    fn collect_eights<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 8]) -> Pair {
        let eight = |i: usize| u64::from_le_bytes(*bytes(i));
        [u64x2(eight(0), eight(1)), u64x2(eight(2), eight(3))]
    }

    #[inline(always)]
    fn collect_fours<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 4]) -> Pair {
        let four = |i: usize| u32::from_le_bytes(*bytes(i));
        let fours = |i| u32x4(four(i), four(i + 1), four(i + 2), four(i + 3));
        [fours(0), fours(4)]
    }

    #[inline(always)]
    fn repeat_i16(self, numbers: &[i16; 16], at: usize) -> Pair {
        [i16x8_splat(numbers[2 * at]), i16x8_splat(numbers[2 * at + 1])]
    }

    #[inline(always)]
    fn select(self, bits: &[u8], a: Pair, b: Pair) -> Pair {
        let bit = u64x2_splat(0x8040_2010_0804_0201);
        std::array::from_fn(|i| {
            let eight = |i: usize| 0x0101_0101_0101_0101 * u64::from(bits[i]);
            let copies = u64x2(eight(2 * i), eight(2 * i + 1));
            v128_bitselect(a[i], b[i], i8x16_eq(v128_and(copies, bit), bit))
        })
    }

    #[inline(always)]
    fn sum_each(self, vectors: &[Pair; MAX_LANES]) -> Pair {
        let halves = |lane: usize| i32x4_add(vectors[lane][0], vectors[lane][1]);
        let four = |first| {
            let [a, b, c, d] = transpose(std::array::from_fn(|i| halves(first + i)));
            i32x4_add(i32x4_add(a, b), i32x4_add(c, d))
        };
        [four(0), four(4)]
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], indices: Pair) -> Pair {
        // SAFETY: 16 bytes can be read.
        let table = unsafe { v128_load(table.as_ptr().cast()) };
        #[cfg(target_feature = "relaxed-simd")]
        return indices.map(|indices| i8x16_relaxed_swizzle(table, indices));
        #[cfg(not(target_feature = "relaxed-simd"))]
        indices.map(|indices| i8x16_swizzle(table, indices))
    }

    #[inline(always)]
    fn dot_zero(self) -> Pair {
        self.splat(0)
    }

    #[inline(always)]
    fn dot(self, wide: bool, sum: Pair, u: Pair, q: Pair) -> Pair {
        if cfg!(target_feature = "relaxed-simd") && !wide {
            // Sums of two products of at most 15 * 127, eight of which stay below 2^15.
            return std::array::from_fn(|i| i16x8_add(sum[i], products_of_nibbles(u[i], q[i])));
        }
        let sum = self.dot_i16(sum, u.map(even_u8), q.map(even_i8));
        self.dot_i16(sum, u.map(odd_u8), q.map(odd_i8))
    }

    #[inline(always)]
    fn dot_sum(self, wide: bool, sum: Pair) -> Pair {
        if cfg!(target_feature = "relaxed-simd") && !wide {
            return sum.map(|sum| i32x4_extadd_pairwise_i16x8(sum));
        }
        sum
    }

    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    fn dots_below_64<const G: usize, const T: usize>(
        self,
        w: [&[Pair]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[Pair; G]; T] {
        let mut sums = [[self.splat(0); G]; T];
        for (j, x) in x.into_iter().enumerate() {
            for (g, w) in w.into_iter().enumerate() {
                for (w, x) in w.as_chunks::<2>().0.iter().zip(x.as_chunks::<2>().0) {
                    let q = x.map(|x| self.splat_bytes(x)[0]);
                    // Sums of four products of at most 63 * 127 stay below 2^15.
                    sums[j][g] = std::array::from_fn(|i| {
                        let products = |k: usize| i16x8_relaxed_dot_i8x16_i7x16(q[k], w[k][i]);
                        let four = i16x8_add(products(0), products(1));
                        i32x4_add(sums[j][g][i], i32x4_extadd_pairwise_i16x8(four))
                    });
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn load_u8(self, bytes: &[u8]) -> Pair {
        let bytes = &bytes[..8];
        // SAFETY: 8 bytes can be read.
        let eight = unsafe { i16x8_load_extend_u8x8(bytes.as_ptr()) };
        [u32x4_extend_low_u16x8(eight), u32x4_extend_high_u16x8(eight)]
    }
}

/// The first 32 bytes.
#[inline(always)]
fn load(bytes: &[u8]) -> Pair {
    [load_one(bytes), load_one(&bytes[16..])]
}

/// The first 16 bytes.
#[inline(always)]
fn load_one(bytes: &[u8]) -> v128 {
    let bytes = &bytes[..16];
    // SAFETY: 16 bytes can be read.
    unsafe { v128_load(bytes.as_ptr().cast()) }
}

/// Lane `i` of vector `j` becomes lane `j` of vector `i`.
#[inline(always)]
fn transpose([a, b, c, d]: [v128; 4]) -> [v128; 4] {
    let (ab_low, ab_high) = (low_lanes(a, b), high_lanes(a, b));
    let (cd_low, cd_high) = (low_lanes(c, d), high_lanes(c, d));
    [
        i64x2_shuffle::<0, 2>(ab_low, cd_low),
        i64x2_shuffle::<1, 3>(ab_low, cd_low),
        i64x2_shuffle::<0, 2>(ab_high, cd_high),
        i64x2_shuffle::<1, 3>(ab_high, cd_high),
    ]
}

#[inline(always)]
fn low_lanes(a: v128, b: v128) -> v128 {
    i32x4_shuffle::<0, 4, 1, 5>(a, b)
}

#[inline(always)]
fn high_lanes(a: v128, b: v128) -> v128 {
    i32x4_shuffle::<2, 6, 3, 7>(a, b)
}

/// The upper halves of 32-bit lanes.
#[inline(always)]
fn high_halves(a: v128, b: v128) -> v128 {
    i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(a, b)
}

/// Bytes with an even place as 16-bit numbers.
#[inline(always)]
fn even_u8(a: v128) -> v128 {
    v128_and(a, i16x8_splat(0xff))
}

/// Bytes with an odd place as 16-bit numbers.
#[inline(always)]
fn odd_u8(a: v128) -> v128 {
    u16x8_shr(a, 8)
}

/// Signed bytes with an even place as 16-bit numbers.
#[inline(always)]
fn even_i8(a: v128) -> v128 {
    i16x8_shr(i16x8_shl(a, 8), 8)
}

/// Signed bytes with an odd place as 16-bit numbers.
#[inline(always)]
fn odd_i8(a: v128) -> v128 {
    i16x8_shr(a, 8)
}

/// Products of unsigned bytes below 16 with signed ones, the sums of two.
#[inline(always)]
fn products_of_nibbles(u: v128, q: v128) -> v128 {
    #[cfg(target_feature = "relaxed-simd")]
    return i16x8_relaxed_dot_i8x16_i7x16(q, u);
    #[cfg(not(target_feature = "relaxed-simd"))]
    sums_of_products(u, q)
}

/// Products of unsigned bytes with signed ones, the sums of two, which fit.
#[inline(always)]
fn sums_of_products(u: v128, q: v128) -> v128 {
    let even = i16x8_mul(even_u8(u), even_i8(q));
    i16x8_add(even, i16x8_mul(odd_u8(u), odd_i8(q)))
}

/// `a * b + c`, rounded once where the engine has an instruction for it.
#[inline(always)]
fn multiply_add(a: v128, b: v128, c: v128) -> v128 {
    #[cfg(target_feature = "relaxed-simd")]
    return f32x4_relaxed_madd(a, b, c);
    #[cfg(not(target_feature = "relaxed-simd"))]
    f32x4_add(f32x4_mul(a, b), c)
}

/// Eight f16 numbers as f32.
#[inline(always)]
fn eight_f16(halves: v128) -> Pair {
    // The lowest exponent becomes 1, the highest one 0.
    let exponents = v128_and(i16x8_add(halves, i16x8_splat(0x0400)), i16x8_splat(0x7800));
    if v128_any_true(i16x8_eq(exponents, i16x8_splat(0))) {
        return eight_of_any_f16(halves);
    }
    [i32x4_extend_low_i16x8(halves), i32x4_extend_high_i16x8(halves)].map(|lanes| {
        // Sign, exponent and mantissa where an f32 has them; the bias is 112 less.
        let bits = v128_and(i32x4_shl(lanes, 13), u32x4_splat(0x8fff_e000));
        i32x4_add(bits, i32x4_splat(112 << 23))
    })
}

/// [`eight_f16`] of any numbers: zeros, denormal ones and those that are none as well.
#[inline(never)]
fn eight_of_any_f16(halves: v128) -> Pair {
    [any_f16(i32x4_extend_low_i16x8(halves)), any_f16(i32x4_extend_high_i16x8(halves))]
}

/// f16 numbers, sign-extended, as f32. No f32 is denormal in between: CPUs are slow at them.
#[inline(always)]
fn any_f16(lanes: v128) -> v128 {
    let magnitude = v128_and(lanes, i32x4_splat(0x7fff));
    let bias = i32x4_splat(112 << 23);
    let is_special = i32x4_gt(magnitude, i32x4_splat(0x7bff));
    let normal = i32x4_add(i32x4_shl(magnitude, 13), bias);
    let normal = i32x4_add(normal, v128_and(is_special, bias));
    let unit = f32x4_splat(1.0 / 16_777_216.0);
    let denormal = f32x4_mul(f32x4_convert_i32x4(magnitude), unit);
    let is_denormal = i32x4_lt(magnitude, i32x4_splat(0x0400));
    let sign = v128_and(lanes, i32x4_splat(i32::MIN));
    v128_or(v128_bitselect(denormal, normal, is_denormal), sign)
}
