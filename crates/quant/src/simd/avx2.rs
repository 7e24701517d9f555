//! x86-64 AVX2 with FMA and F16C, and with AVX-VNNI: 8 rows per vector.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{FloatSimd, Job, LaneRows, MAX_LANES, Simd, operations, prefetches};
use crate::cpu::InstructionSet;

/// Proof that the CPU has the instructions of `P`.
///
/// With `PACKED`, weights are groups of rows as [`Kernel::pack`](crate::Kernel::pack)
/// interleaves them.
#[derive(Clone, Copy)]
pub(crate) struct Avx2<const PACKED: bool = false, P = Maddubs>(PhantomData<P>);

/// The same with AVX-VNNI.
pub(crate) type AvxVnni<const PACKED: bool = false> = Avx2<PACKED, Vnni>;

/// How products of bytes are summed, and what goes with it.
///
/// # Safety
///
/// [`SET`](Self::SET) names every instruction that the functions use, AVX2 with FMA and F16C among
/// them.
pub(crate) unsafe trait Products: Copy {
    /// See [`FloatSimd::SET`].
    const SET: InstructionSet;
    /// See [`Simd::TILE_VECTORS`].
    const TILE_VECTORS: usize;
    /// See [`Simd::Dot`].
    type Sum: Copy;

    /// Runs `job` as code of the instruction set.
    fn run<J: Job<Avx2<PACKED, Self>>, const PACKED: bool>(
        s: Avx2<PACKED, Self>,
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
    unsafe fn add(wide: bool, sum: Self::Sum, u: __m256i, q: __m256i) -> Self::Sum;
    /// See [`Simd::dot_sum`].
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of [`SET`](Self::SET).
    unsafe fn total(wide: bool, sum: Self::Sum) -> __m256i;
}

/// AVX2: products of nibbles are summed in 16 bits.
#[derive(Clone, Copy)]
pub(crate) struct Maddubs;

/// Sums of products as pairs of i16, for the low and the high nibbles of `u`.
///
/// Eight sums of two products of at most 15 * 127 stay below 2^15.
#[derive(Clone, Copy)]
pub(crate) struct Nibbles {
    low: __m256i,
    high: __m256i,
}

// SAFETY: all that is used is of AVX2, and code is compiled for AVX2, FMA and F16C.
unsafe impl Products for Maddubs {
    const SET: InstructionSet = InstructionSet::Avx2;
    const TILE_VECTORS: usize = 1;
    type Sum = Nibbles;

    #[inline(always)]
    fn run<J: Job<Avx2<PACKED>>, const PACKED: bool>(s: Avx2<PACKED>, job: J) -> J::Output {
        #[inline(never)] // a tile has its registers to itself
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<S, J: Job<S>>(s: S, job: J) -> J::Output {
            job.run(s)
        }
        // SAFETY: `s` proves that the CPU has the instructions.
        unsafe { run(s, job) }
    }

    #[inline(always)]
    unsafe fn zero() -> Nibbles {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe { Nibbles { low: _mm256_setzero_si256(), high: _mm256_setzero_si256() } }
    }

    #[inline(always)]
    unsafe fn add(wide: bool, sum: Nibbles, u: __m256i, q: __m256i) -> Nibbles {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe {
            let add = |sum, nibbles| _mm256_add_epi16(sum, _mm256_maddubs_epi16(nibbles, q));
            if !wide {
                return Nibbles { low: add(sum.low, u), high: sum.high };
            }
            let mask = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(u), mask);
            let low = _mm256_and_si256(u, mask);
            Nibbles { low: add(sum.low, low), high: add(sum.high, high) }
        }
    }

    #[inline(always)]
    unsafe fn total(wide: bool, sum: Nibbles) -> __m256i {
        // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let low = _mm256_madd_epi16(sum.low, ones);
            if !wide {
                return low;
            }
            // 16 * high does not fit in i16, its sum in 32 bits does.
            _mm256_add_epi32(low, _mm256_madd_epi16(sum.high, _mm256_set1_epi16(16)))
        }
    }
}

/// AVX-VNNI: one instruction multiplies bytes and sums in 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct Vnni;

/// Implements [`Products`] with an instruction for all of a dot product.
macro_rules! products_by {
    ($name:ty, $set:expr, $features:literal, $instruction:ident) => {
        // SAFETY: the instruction is one of the set's, whose features code is compiled for.
        unsafe impl Products for $name {
            const SET: InstructionSet = $set;
            const TILE_VECTORS: usize = 2;
            type Sum = __m256i;

            #[inline(always)]
            fn run<J: Job<Avx2<PACKED, Self>>, const PACKED: bool>(
                s: Avx2<PACKED, Self>,
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

            #[inline(always)]
            unsafe fn zero() -> __m256i {
                // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
                unsafe { _mm256_setzero_si256() }
            }

            #[inline(always)]
            unsafe fn add(_wide: bool, sum: __m256i, u: __m256i, q: __m256i) -> __m256i {
                // SAFETY: the CPU has the instructions of `SET`, as whoever calls makes sure.
                unsafe { $instruction(sum, u, q) }
            }

            #[inline(always)]
            unsafe fn total(_wide: bool, sum: __m256i) -> __m256i {
                sum
            }
        }
    };
}

products_by!(Vnni, InstructionSet::AvxVnni, "avx2,fma,f16c,avxvnni", _mm256_dpbusd_avx_epi32);

// SAFETY: what is used is AVX2, FMA and F16C, which every set of `P` has, and that set's own.
unsafe impl<const PACKED: bool, P: Products> FloatSimd for Avx2<PACKED, P> {
    const SET: InstructionSet = P::SET;
    const LANES: usize = 8;
    const SUMS: usize = 12;
    const FLOAT_TILE_TOKENS: usize = 2;

    type F = __m256;

    unsafe fn new_unchecked() -> Self {
        Self(PhantomData)
    }

    #[inline(always)]
    fn run<J: Job<Self>>(self, job: J) -> J::Output {
        P::run(self, job)
    }

    prefetches!();

    operations! {
        fn splat_f32(value: f32) -> __m256 = _mm256_set1_ps(value);
        fn add_f32(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub_f32(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul_f32(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn fma_f32(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> __m256 {
        let bytes = &bytes[..32];
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe { _mm256_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> __m256 {
        let bytes = &bytes[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> __m256 {
        let bytes = &bytes[..16];
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    fn store_f32(self, a: __m256, to: &mut [f32]) {
        let to = &mut to[..8];
        // SAFETY: `self` proves the instructions; 8 elements can be written.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), a) }
    }
}

impl<const PACKED: bool, P: Products> Simd for Avx2<PACKED, P> {
    const PACKED: bool = PACKED;
    const TILE_VECTORS: usize = P::TILE_VECTORS;
    const TILE_TOKENS: usize = 4;

    type I = __m256i;
    type Dot = P::Sum;

    #[inline(always)]
    fn transpose(self, rows: &LaneRows<'_>, at: usize) -> [__m256i; 4] {
        if PACKED {
            let group = rows.stream(self, at, 16);
            // SAFETY: `self` proves the instructions; four vectors can be read there.
            return std::array::from_fn(|j| unsafe {
                _mm256_loadu_si256(group.cast::<__m256i>().add(j))
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
                _mm256_set_m128i(part(1), part(0))
            };
            let (a, b, c, d) = (load(0), load(1), load(2), load(3));
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    #[inline(always)]
    fn gather_f16(self, rows: &LaneRows<'_>, at: usize) -> __m256 {
        let row = rows.pointers(at, 2);
        // SAFETY: `self` proves the instructions; two bytes can be read at each pointer.
        unsafe {
            let half = |lane: usize| row(lane).cast::<i16>().read_unaligned();
            _mm256_cvtph_ps(_mm_setr_epi16(
                half(0),
                half(1),
                half(2),
                half(3),
                half(4),
                half(5),
                half(6),
                half(7),
            ))
        }
    }

    #[inline(always)]
    fn load_words_of_rows(self, rows: &LaneRows<'_>, at: usize) -> __m256i {
        let row = rows.pointers(at, 4);
        // SAFETY: four bytes can be read at each pointer.
        self.collect_fours(|lane| unsafe { &*row(lane).cast() })
    }

    operations! {
        fn splat(value: i32) -> __m256i = _mm256_set1_epi32(value);
        fn and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
        fn or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
        fn xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
        fn shl(a: __m256i, bits: u32) -> __m256i =
            _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits as i32));
        fn shr(a: __m256i, bits: u32) -> __m256i =
            _mm256_srl_epi32(a, _mm_cvtsi32_si128(bits as i32));
        fn sar(a: __m256i, bits: u32) -> __m256i =
            _mm256_sra_epi32(a, _mm_cvtsi32_si128(bits as i32));
        fn add(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        fn sub(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
        fn mul(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi32(a, b);
        fn dot_zero() -> P::Sum = P::zero();
        fn dot(wide: bool, sum: P::Sum, u: __m256i, q: __m256i) -> P::Sum =
            P::add(wide, sum, u, q);
        fn dot_sum(wide: bool, sum: P::Sum) -> __m256i = P::total(wide, sum);
        fn dot_i16(sum: __m256i, a: __m256i, b: __m256i) -> __m256i =
            _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
        fn mul_u16(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi16(a, b);
        fn mul_high_u16(a: __m256i, b: __m256i) -> __m256i = _mm256_mulhi_epu16(a, b);
        fn products(u: __m256i, q: __m256i) -> __m256i = _mm256_maddubs_epi16(u, q);
        fn to_f32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        fn f32_from_bits(a: __m256i) -> __m256 = _mm256_castsi256_ps(a);
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[i8]) -> __m256i {
        let bytes = &bytes[..32];
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_bytes(self, a: __m256i, to: &mut [u8]) {
        let to = &mut to[..32];
        // SAFETY: `self` proves the instructions; 32 bytes can be written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), a) }
    }

    #[inline(always)]
    fn dot_eight(self, sum: __m256i, a: &[i32; 8], b: &[i32; 8]) -> __m256i {
        // SAFETY: `self` proves the instructions; 32 bytes can be read from each.
        unsafe {
            let a = _mm256_loadu_si256(a.as_ptr().cast());
            self.dot_i16(sum, a, _mm256_loadu_si256(b.as_ptr().cast()))
        }
    }

    #[inline(always)]
    fn collect_eights<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 8]) -> __m256i {
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_set_m128i(eights(bytes(2), bytes(3)), eights(bytes(0), bytes(1))) }
    }

    #[inline(always)]
    fn collect_fours<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 4]) -> __m256i {
        let four = |i| [bytes(i), bytes(i + 1), bytes(i + 2), bytes(i + 3)];
        // SAFETY: `self` proves the instructions.
        unsafe { _mm256_set_m128i(fours(four(4)), fours(four(0))) }
    }

    #[inline(always)]
    fn repeat_i16(self, numbers: &[i16; 16], at: usize) -> __m256i {
        // Of two numbers in each 16 bytes.
        const WHICH: [u8; 32] = {
            let mut which = [0; 32];
            let mut i = 0;
            while i < 32 {
                which[i] = (i / 16 * 2 + i % 2) as u8;
                i += 1;
            }
            which
        };
        let two: [i16; 2] = [numbers[2 * at], numbers[2 * at + 1]];
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe {
            let which = _mm256_loadu_si256(WHICH.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_set1_epi32(bytemuck::cast(two)), which)
        }
    }

    #[inline(always)]
    fn select(self, bits: &[u8], a: __m256i, b: __m256i) -> __m256i {
        // Each byte of bits eight times; of each copy, one bit counts.
        const WHICH: [u64; 4] =
            [0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303];
        let bits = i32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
        // SAFETY: `self` proves the instructions; 32 bytes can be read.
        unsafe {
            let which = _mm256_loadu_si256(WHICH.as_ptr().cast());
            let copies = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), which);
            let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
            let mask = _mm256_cmpeq_epi8(_mm256_and_si256(copies, bit), bit);
            _mm256_blendv_epi8(b, a, mask)
        }
    }

    #[inline(always)]
    fn sum_each(self, vectors: &[__m256i; MAX_LANES]) -> __m256i {
        let mut v = *vectors;
        // SAFETY: `self` proves the instructions.
        unsafe {
            // Each step leaves half of the vectors, and half of the lanes to each sum.
            for n in [4, 2] {
                for i in 0..n {
                    v[i] = _mm256_hadd_epi32(v[2 * i], v[2 * i + 1]);
                }
            }
            let low = _mm256_permute2x128_si256::<0x20>(v[0], v[1]);
            _mm256_add_epi32(low, _mm256_permute2x128_si256::<0x31>(v[0], v[1]))
        }
    }

    #[inline(always)]
    fn lookup(self, table: &[u8; 16], indices: __m256i) -> __m256i {
        // SAFETY: `self` proves the instructions; 16 bytes can be read.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), indices)
        }
    }

    #[inline(always)]
    fn f16_to_f32(self, a: __m256i) -> __m256 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(low, low));
            _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
        }
    }

    #[inline(always)]
    fn load_u8(self, bytes: &[u8]) -> __m256i {
        let bytes = &bytes[..8];
        // SAFETY: `self` proves the instructions; 8 bytes can be read.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.as_ptr().cast())) }
    }
}

/// Two runs of eight bytes, one after the other.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn eights(first: &[u8; 8], second: &[u8; 8]) -> __m128i {
    // SAFETY: eight bytes can be read at each pointer. As floats, because loads into
    // the upper half are one instruction then.
    unsafe {
        let low = _mm_load_sd(first.as_ptr().cast());
        _mm_castpd_si128(_mm_loadh_pd(low, second.as_ptr().cast()))
    }
}

/// Four runs of four bytes, one after another.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn fours(bytes: [&[u8; 4]; 4]) -> __m128i {
    let [a, b, c, d] = bytes;
    let v = _mm_cvtsi32_si128(i32::from_le_bytes(*a));
    let v = _mm_insert_epi32::<1>(v, i32::from_le_bytes(*b));
    let v = _mm_insert_epi32::<2>(v, i32::from_le_bytes(*c));
    _mm_insert_epi32::<3>(v, i32::from_le_bytes(*d))
}

#[cfg(test)]
mod tests {
    //! AVX-VNNI's kernels with the instruction that AVX-512 has for the same, which more
    //! of the machines that run tests have.

    use realm_gguf::TensorType;

    use super::*;
    use crate::rows::{RowFormat, kernel};
    use crate::{Activations, Kernel, block32, block256, codebook, nvfp4};

    #[derive(Clone, Copy)]
    struct Evex;

    products_by!(
        Evex,
        InstructionSet::Avx512Vnni,
        "avx2,fma,f16c,avx512f,avx512vl,avx512vnni",
        _mm256_dpbusd_epi32
    );

    const COLS: usize = 512;
    const ROWS: usize = 21;

    fn product(kernel: &Kernel, weights: &[u8], x: &Activations) -> Vec<u32> {
        let mut out = vec![f32::NAN; ROWS * x.rows()];
        kernel.matmul(weights, ROWS, COLS, x.view(0..x.rows()), &mut out).unwrap();
        out.iter().map(|v| v.to_bits()).collect()
    }

    fn check<F: RowFormat>(ty: TensorType) {
        let (vnni, format) = (kernel::<Avx2<false, Evex>, F>(ty), crate::format(ty).unwrap());
        if !vnni.set.is_available() {
            return;
        }
        let scalar = format.kernels().last().unwrap();
        // Bytes below 0x3c keep the exponent of any f16 in range.
        let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8 % 0x3c;
        let bytes = ROWS * COLS / ty.block_len() * ty.block_bytes();
        let weights: Vec<u8> = (0..bytes).map(byte).collect();
        for tokens in [1, 3, 4, 11] {
            let mut x = Activations::new(crate::Level::SCALAR);
            x.reset(format.activation, tokens, COLS).unwrap();
            for row in 0..tokens {
                let value = |i: usize| ((i * 37 + row * 11) % 255) as f32 - 127.0;
                x.quantize_row(row, &(0..COLS).map(value).collect::<Vec<_>>()).unwrap();
            }
            let want = product(scalar, &weights, &x);
            assert_eq!(product(&vnni, &weights, &x), want, "{ty}, {tokens} tokens");
        }
    }

    #[test]
    fn sums_by_one_instruction_equal_the_definition() {
        check::<block32::rows::FormatRows<crate::q4_0::Q4_0>>(TensorType::Q4_0);
        check::<block32::rows::FormatRows<crate::q8_0::Q8_0>>(TensorType::Q8_0);
        check::<block256::rows::FormatRows<crate::q4_k::Q4K>>(TensorType::Q4_K);
        check::<block256::rows::FormatRows<crate::q6_k::Q6K>>(TensorType::Q6_K);
        check::<codebook::rows::FormatRows<crate::iq2_s::IQ2S>>(TensorType::IQ2_S);
        check::<nvfp4::rows::FormatRows>(TensorType::NVFP4);
    }
}
