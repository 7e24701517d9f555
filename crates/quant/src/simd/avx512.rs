//! x86-64 AVX-512 with VNNI: 16 rows per vector.

use std::arch::x86_64::*;

use super::avx2::{eights, fours};
use super::{Job, MAX_LANES, Rows, Simd, operations, which_of_repeated};
use crate::cpu::Level;

/// Proof that the CPU has [`Level::Avx512Vnni`].
///
/// With `PACKED`, weights are groups of rows as [`Kernel::pack`](crate::Kernel::pack)
/// interleaves them.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const PACKED: bool = false>(());

#[inline(never)] // a tile has its registers to itself
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run<J: Job<Avx512<PACKED>>, const PACKED: bool>(s: Avx512<PACKED>, job: J) -> J::Output {
    job.run(s)
}

impl<const PACKED: bool> Simd for Avx512<PACKED> {
    const LEVEL: Level = Level::Avx512Vnni;
    const LANES: usize = 16;
    const PACKED: bool = PACKED;
    const TILE_VECTORS: usize = 2;
    const TILE_TOKENS: usize = 6;
    // Rows that are not interleaved take longer to unpack. Measured on Zen 4.
    const TURNS_TOKENS: usize = if PACKED { 24 } else { 0 };
    const FLOAT_TILE_TOKENS: usize = 4;

    type I = __m512i;
    type F = __m512;
    type Dot = __m512i;

    unsafe fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    fn run<J: Job<Self>>(self, job: J) -> J::Output {
        // SAFETY: `self` proves that the CPU has the instructions.
        unsafe { run(self, job) }
    }

    #[inline(always)]
    fn transpose(self, rows: &Rows<'_>, at: usize) -> [__m512i; 4] {
        if PACKED {
            let group = rows.stream(self, at, 16);
            // SAFETY: `self` proves the instructions; four vectors can be read there.
            return std::array::from_fn(|j| unsafe {
                _mm512_loadu_si512(group.cast::<__m512i>().add(j))
            });
        }
        // And as much again as the scales of 16 bytes of nibbles have.
        rows.prefetch_some(self, 18 * Self::LANES);
        let row = rows.pointers(at, 16);
        // SAFETY: `self` proves the instructions; 16 bytes can be read at each pointer.
        unsafe {
            // Rows 4 apart share a vector, so that the unpacking leaves them in order.
            let load = |lane: usize| {
                let part = |i: usize| _mm_loadu_si128(row(lane + 4 * i).cast());
                let v = _mm512_castsi128_si512(part(0));
                let v = _mm512_inserti32x4::<1>(v, part(1));
                let v = _mm512_inserti32x4::<2>(v, part(2));
                _mm512_inserti32x4::<3>(v, part(3))
            };
            let (a, b, c, d) = (load(0), load(1), load(2), load(3));
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    fn load_f16_of_rows(self, rows: &Rows<'_>, at: usize) -> __m512 {
        if PACKED {
            return self.load_f16(rows.group::<Self>(at, 2));
        }
        let row = rows.pointers(at, 2);
        // SAFETY: `self` proves the instructions; two bytes can be read at each pointer.
        unsafe {
            let half = |lane: usize| row(lane).cast::<i16>().read_unaligned();
            let eight = |i: usize| {
                _mm_setr_epi16(
                    half(i),
                    half(i + 1),
                    half(i + 2),
                    half(i + 3),
                    half(i + 4),
                    half(i + 5),
                    half(i + 6),
                    half(i + 7),
                )
            };
            _mm512_cvtph_ps(_mm256_set_m128i(eight(8), eight(0)))
        }
    }

    #[inline(always)]
    fn load_words_of_rows(self, rows: &Rows<'_>, at: usize) -> __m512i {
        let row = rows.pointers(at, 4);
        // SAFETY: four bytes can be read at each pointer.
        self.collect_fours(|lane| unsafe { &*row(lane).cast() })
    }

    operations! {
        fn prefetch(address: *const u8) -> () = _mm_prefetch::<_MM_HINT_T1>(address.cast());
        fn prefetch_near(address: *const u8) -> () = _mm_prefetch::<_MM_HINT_T0>(address.cast());
        fn splat(value: i32) -> __m512i = _mm512_set1_epi32(value);
        fn and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        fn or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        fn xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        fn shl(a: __m512i, bits: u32) -> __m512i =
            _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits as i32));
        fn shr(a: __m512i, bits: u32) -> __m512i =
            _mm512_srl_epi32(a, _mm_cvtsi32_si128(bits as i32));
        fn sar(a: __m512i, bits: u32) -> __m512i =
            _mm512_sra_epi32(a, _mm_cvtsi32_si128(bits as i32));
        fn add(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        fn sub(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        fn mul(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi32(a, b);
        fn dot_zero() -> __m512i = _mm512_setzero_si512();
        fn dot(_wide: bool, sum: __m512i, u: __m512i, q: __m512i) -> __m512i =
            _mm512_dpbusd_epi32(sum, u, q);
        fn dot_sum(_wide: bool, sum: __m512i) -> __m512i = sum;
        fn dot_i16(sum: __m512i, a: __m512i, b: __m512i) -> __m512i =
            _mm512_dpwssd_epi32(sum, a, b);
        fn mul_u16(a: __m512i, b: __m512i) -> __m512i = _mm512_mullo_epi16(a, b);
        fn mul_high_u16(a: __m512i, b: __m512i) -> __m512i = _mm512_mulhi_epu16(a, b);
        fn products(u: __m512i, q: __m512i) -> __m512i = _mm512_maddubs_epi16(u, q);
        fn to_f32(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        fn f32_from_bits(a: __m512i) -> __m512 = _mm512_castsi512_ps(a);
        fn f16_to_f32(a: __m512i) -> __m512 = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
        fn splat_f32(value: f32) -> __m512 = _mm512_set1_ps(value);
        fn add_f32(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub_f32(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul_f32(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn fma_f32(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[i8]) -> __m512i {
        let bytes = &bytes[..64];
        // SAFETY: `self` proves the instructions; 64 bytes can be read.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_bytes(self, a: __m512i, to: &mut [u8]) {
        let to = &mut to[..64];
        // SAFETY: `self` proves the instructions; 64 bytes can be written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), a) }
    }

    #[inline(always)]
    fn dot_eight(self, sum: __m512i, a: &[i32; 8], b: &[i32; 8]) -> __m512i {
        // SAFETY: `self` proves the instructions; 32 bytes can be read from each.
        unsafe {
            let [a, b] = [a, b]
                .map(|eight| _mm512_zextsi256_si512(_mm256_loadu_si256(eight.as_ptr().cast())));
            self.dot_i16(sum, a, b)
        }
    }

    #[inline(always)]
    fn collect_eights<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 8]) -> __m512i {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let (a, b) = (eights(bytes(0), bytes(1)), eights(bytes(2), bytes(3)));
            let (c, d) = (eights(bytes(4), bytes(5)), eights(bytes(6), bytes(7)));
            let (low, high) = (_mm256_set_m128i(b, a), _mm256_set_m128i(d, c));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }

    #[inline(always)]
    fn collect_fours<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 4]) -> __m512i {
        let four = |i| [bytes(i), bytes(i + 1), bytes(i + 2), bytes(i + 3)];
        // SAFETY: `self` proves the instructions.
        unsafe {
            let (a, b) = (fours(four(0)), fours(four(4)));
            let (c, d) = (fours(four(8)), fours(four(12)));
            let (low, high) = (_mm256_set_m128i(b, a), _mm256_set_m128i(d, c));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        }
    }

    #[inline(always)]
    fn repeat_i16(self, numbers: &[i16]) -> __m512i {
        const WHICH: [u8; 64] = which_of_repeated();
        let four: [i16; 4] = [numbers[0], numbers[1], numbers[2], numbers[3]];
        // SAFETY: `self` proves the instructions; 64 bytes can be read.
        unsafe {
            let which = _mm512_loadu_si512(WHICH.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_set1_epi64(bytemuck::cast(four)), which)
        }
    }

    #[inline(always)]
    fn select(self, bits: &[u8], a: __m512i, b: __m512i) -> __m512i {
        let (bits, _) = bits.split_first_chunk().expect("a bit per byte");
        // SAFETY: `self` proves the instructions.
        unsafe { _mm512_mask_blend_epi8(u64::from_le_bytes(*bits), b, a) }
    }

    #[inline(always)]
    fn sum_each(self, vectors: &[__m512i; MAX_LANES]) -> __m512i {
        // Each step leaves half of the vectors, and half of the lanes to each sum.
        let mut v = *vectors;
        // SAFETY: `self` proves the instructions.
        unsafe {
            for i in 0..8 {
                let (a, b) = (v[2 * i], v[2 * i + 1]);
                v[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            }
            for i in 0..4 {
                let (a, b) = (v[2 * i], v[2 * i + 1]);
                v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
            }
            for n in [2, 1] {
                for i in 0..n {
                    let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(v[2 * i], v[2 * i + 1]);
                    let odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(v[2 * i], v[2 * i + 1]);
                    v[i] = _mm512_add_epi32(even, odd);
                }
            }
        }
        v[0]
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], indices: __m512i) -> __m512i {
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), indices)
        }
    }

    #[inline(always)]
    fn load_u8(self, bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> __m512 {
        let bytes = &bytes[..64];
        // SAFETY: `self` proves the instructions; 64 bytes can be read.
        unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> __m512 {
        let bytes = &bytes[..32];
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> __m512 {
        let bytes = &bytes[..32];
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    fn store_f32(self, a: __m512, to: &mut [f32]) {
        let to = &mut to[..16];
        // SAFETY: `self` proves the instructions; 16 elements can be written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), a) }
    }
}
