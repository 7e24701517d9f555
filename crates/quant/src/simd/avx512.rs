//! x86-64 AVX-512: 16 lanes per vector, and with VNNI 16 rows.

use std::arch::x86_64::*;

use super::avx2::{eights, fours};
use super::{FloatSimd, Job, LaneRows, MAX_LANES, SUM_LANES, Simd, Table, operations, prefetches};
use crate::cpu::InstructionSet;

/// Proof that the CPU has [`InstructionSet::Avx512`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512Float(());

/// Proof that the CPU has [`InstructionSet::Avx512Vnni`].
///
/// With `PACKED`, weights are groups of rows as [`Kernel::pack`](crate::Kernel::pack)
/// interleaves them. With `VBMI` it is proof of [`InstructionSet::Avx512Vbmi`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const PACKED: bool = false, const VBMI: bool = false>(());

/// The proof of [`InstructionSet::Avx512Vbmi`].
pub(crate) type Avx512Vbmi = Avx512<false, true>;

/// For [`Simd::repeat_i16`]: which number each 16 bits take.
static REPEATED: [[u16; 32]; 4] = {
    let mut which = [[0; 32]; 4];
    let mut i = 0;
    while i < 128 {
        which[i / 32][i % 32] = (i / 8) as u16;
        i += 1;
    }
    which
};

/// For [`Simd::negate_some`]: in which byte the bit for each byte is.
static BYTES_OF_BITS: [[u8; 64]; 4] = {
    let mut which = [[0; 64]; 4];
    let mut i = 0;
    while i < 256 {
        which[i / 64][i % 64] = (i / 8) as u8;
        i += 1;
    }
    which
};

/// In each byte the bit for it.
const SINGLE_BITS: i64 = i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]);

/// Every second of what is `DISTANCE` apart takes the place of the one before it in lanes
/// whose index has the bit for it.
///
/// # Safety
///
/// The CPU has AVX-512 BW.
#[inline(always)]
unsafe fn choose<const DISTANCE: usize, const PAIRS: usize>(
    found: &mut [__m512i; PAIRS],
    indices: __m512i,
) {
    let mut i = 0;
    while i + DISTANCE < PAIRS {
        // SAFETY: the CPU has AVX-512 BW, as whoever calls makes sure.
        unsafe {
            let bit = _mm512_set1_epi16(64 * DISTANCE as i16);
            let is_later = _mm512_test_epi16_mask(indices, bit);
            found[i] = _mm512_mask_mov_epi16(found[i], is_later, found[i + DISTANCE]);
        }
        i += 2 * DISTANCE;
    }
}

#[inline(never)] // a tile has its registers to itself
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
fn run_float<S, J: Job<S>>(s: S, job: J) -> J::Output {
    job.run(s)
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_vnni<S, J: Job<S>>(s: S, job: J) -> J::Output {
    job.run(s)
}

#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
fn run_vbmi<S, J: Job<S>>(s: S, job: J) -> J::Output {
    job.run(s)
}

/// # Safety
///
/// The CPU has the instructions of [`InstructionSet::Avx512Vbmi`] with `VBMI`, otherwise those of
/// [`InstructionSet::Avx512Vnni`].
#[inline(always)]
unsafe fn run_bytes<const VBMI: bool, S, J: Job<S>>(s: S, job: J) -> J::Output {
    // SAFETY: the CPU has the instructions of either, as whoever calls makes sure.
    unsafe { if VBMI { run_vbmi(s, job) } else { run_vnni(s, job) } }
}

/// The first sixteen bytes of each row.
#[inline]
#[target_feature(enable = "avx2")]
fn sixteen_bytes_each([first, second]: [&[u8]; 2]) -> __m256i {
    let (first, second) = (&first[..16], &second[..16]);
    // SAFETY: sixteen bytes can be read at each pointer.
    unsafe {
        let low = _mm_loadu_si128(first.as_ptr().cast());
        _mm256_set_m128i(_mm_loadu_si128(second.as_ptr().cast()), low)
    }
}

/// Implements [`FloatSimd`] for a proof of `$set`, for which `$run` is compiled.
///
/// Two rows of weights share a vector: each then has eight lanes, as without AVX-512.
macro_rules! float_simd {
    ([$($parameters:tt)*] $name:ty, $set:expr, $run:expr) => {
        // SAFETY: what is used is AVX-512 F, BW, DQ and VL, which each of the sets has.
        unsafe impl<$($parameters)*> FloatSimd for $name {
            const SET: InstructionSet = $set;
            const LANES: usize = 16;
            const SUMS: usize = 24;
            const ROWS: usize = Self::LANES / SUM_LANES;
            const FLOAT_TILE_TOKENS: usize = 6;

            type F = __m512;

            unsafe fn new_unchecked() -> Self {
                Self(())
            }

            #[inline(always)]
            fn run<J: Job<Self>>(self, job: J) -> J::Output {
                // SAFETY: `self` proves that the CPU has the instructions.
                unsafe { $run(self, job) }
            }

            prefetches!();

            operations! {
                fn splat_f32(value: f32) -> __m512 = _mm512_set1_ps(value);
                fn add_f32(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
                fn sub_f32(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
                fn mul_f32(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
                fn fma_f32(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
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

            #[inline(always)]
            fn load_rows_f32(self, [first, second]: [&[u8]; 2]) -> __m512 {
                let (first, second) = (&first[..32], &second[..32]);
                // SAFETY: `self` proves the instructions; 32 bytes can be read from each.
                unsafe {
                    let low = _mm512_castps256_ps512(_mm256_loadu_ps(first.as_ptr().cast()));
                    _mm512_insertf32x8::<1>(low, _mm256_loadu_ps(second.as_ptr().cast()))
                }
            }

            #[inline(always)]
            fn load_rows_f16(self, rows: [&[u8]; 2]) -> __m512 {
                // SAFETY: `self` proves the instructions.
                unsafe { _mm512_cvtph_ps(sixteen_bytes_each(rows)) }
            }

            #[inline(always)]
            fn load_rows_bf16(self, rows: [&[u8]; 2]) -> __m512 {
                // SAFETY: `self` proves the instructions.
                unsafe {
                    let halves = _mm512_cvtepu16_epi32(sixteen_bytes_each(rows));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
                }
            }

            #[inline(always)]
            fn repeat_f32(self, bytes: &[u8]) -> __m512 {
                let bytes = &bytes[..32];
                // SAFETY: `self` proves the instructions; 32 bytes can be read.
                unsafe { _mm512_broadcast_f32x8(_mm256_loadu_ps(bytes.as_ptr().cast())) }
            }
        }
    };
}

float_simd!([] Avx512Float, InstructionSet::Avx512, run_float);
float_simd!(
    [const PACKED: bool, const VBMI: bool] Avx512<PACKED, VBMI>,
    if VBMI { InstructionSet::Avx512Vbmi } else { InstructionSet::Avx512Vnni },
    run_bytes::<VBMI, _, _>
);

impl<const PACKED: bool, const VBMI: bool> Simd for Avx512<PACKED, VBMI> {
    const PACKED: bool = PACKED;
    const TILE_VECTORS: usize = 2;
    const TILE_TOKENS: usize = 6;
    // Rows that are not interleaved take longer to unpack. Measured on Zen 4.
    const TURNS_TOKENS: usize = if PACKED { 24 } else { 0 };
    const DECODES: bool = VBMI;

    type I = __m512i;
    type Dot = __m512i;

    #[inline(always)]
    fn transpose(self, rows: &LaneRows<'_>, at: usize) -> [__m512i; 4] {
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
    fn gather_f16(self, rows: &LaneRows<'_>, at: usize) -> __m512 {
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
    fn load_words_of_rows(self, rows: &LaneRows<'_>, at: usize) -> __m512i {
        let row = rows.pointers(at, 4);
        // SAFETY: four bytes can be read at each pointer.
        self.collect_fours(|lane| unsafe { &*row(lane).cast() })
    }

    operations! {
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
    fn repeat_i16(self, numbers: &[i16; 16], at: usize) -> __m512i {
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe {
            let which = _mm512_loadu_si512(REPEATED[at].as_ptr().cast());
            let numbers = _mm256_loadu_si256(numbers.as_ptr().cast());
            _mm512_permutexvar_epi16(which, _mm512_castsi256_si512(numbers))
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
    fn numbers<const PAIRS: usize>(self, table: &Table<PAIRS>, indices: &[u16; 32]) -> __m512i {
        const { assert!(!VBMI || PAIRS <= 16, "more pairs than are chosen among") };
        // SAFETY: `self` proves the instructions; 64 bytes can be read from the indices and
        // from either half of 64 numbers, which lie at multiples of 64.
        unsafe {
            let indices = _mm512_loadu_si512(indices.as_ptr().cast());
            let mut found = [_mm512_setzero_si512(); PAIRS];
            for (found, numbers) in found.iter_mut().zip(&table.0) {
                let numbers = numbers.as_ptr().cast::<__m512i>();
                let (low, high) = (_mm512_load_si512(numbers), _mm512_load_si512(numbers.add(1)));
                *found = _mm512_permutex2var_epi16(low, indices, high);
            }
            // The lowest six bits have chosen in each pair, the next ones choose among them.
            choose::<1, PAIRS>(&mut found, indices);
            choose::<2, PAIRS>(&mut found, indices);
            choose::<4, PAIRS>(&mut found, indices);
            choose::<8, PAIRS>(&mut found, indices);
            found[0]
        }
    }

    #[inline(always)]
    fn decode(
        self,
        numbers: __m512i,
        (which, shifts): (&[u8; 64], [u8; 8]),
        values: &[u8; 64],
    ) -> __m512i {
        if !VBMI {
            unreachable!("asked for where DECODES is false");
        }
        // SAFETY: `self` proves the instructions; 64 bytes can be read from each list.
        unsafe {
            let load = |bytes: &[u8; 64]| _mm512_loadu_si512(bytes.as_ptr().cast());
            let numbers = _mm512_permutexvar_epi8(load(which), numbers);
            let shifts = _mm512_set1_epi64(i64::from_le_bytes(shifts));
            let places = _mm512_multishift_epi64_epi8(shifts, numbers);
            _mm512_permutexvar_epi8(places, load(values))
        }
    }

    #[inline(always)]
    fn negate_some(self, bits: &[u8; 32], at: usize, a: __m512i) -> __m512i {
        if !VBMI {
            unreachable!("asked for where DECODES is false");
        }
        // SAFETY: `self` proves the instructions; 32 and 64 bytes can be read.
        unsafe {
            let which = _mm512_loadu_si512(BYTES_OF_BITS[at].as_ptr().cast());
            let bits = _mm512_castsi256_si512(_mm256_loadu_si256(bits.as_ptr().cast()));
            let bits = _mm512_permutexvar_epi8(which, bits);
            let is_set = _mm512_test_epi8_mask(bits, _mm512_set1_epi64(SINGLE_BITS));
            _mm512_mask_sub_epi8(a, is_set, _mm512_setzero_si512(), a)
        }
    }

    #[inline(always)]
    fn load_u8(self, bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }
}
