//! Vector instruction sets, one file each.
//!
//! A value of a type that implements [`FloatSimd`] proves that the CPU has the
//! instructions, so its operations are safe. Code over it is `#[inline(always)]`
//! and runs inside [`FloatSimd::run`], which is compiled for the instruction set;
//! outside, every operation would be a call.
//!
//! [`FloatSimd`] is what work on floats needs, and all that other crates see of vectors:
//! [`Level::run`](crate::Level::run) runs such work. [`Simd`] adds what the quantised formats
//! need: vectors hold one 32-bit lane per weight row, and integer vectors are read as
//! bytes, 16-bit pairs or 32-bit numbers, as each operation says.

mod rows;
mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_feature = "simd128")]
mod wasm;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Float, Avx512Vbmi};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{DotProd, I8mm, Neon};
#[cfg(target_feature = "simd128")]
pub(crate) use wasm::Simd128;

use crate::cpu::InstructionSet;

pub(crate) use rows::{LaneRows, prefetch};
pub(crate) use scalar::Scalar;

/// Most lanes any instruction set has.
pub(crate) const MAX_LANES: usize = 16;

/// Lanes whose sums are added in one order by all levels of an architecture: the fewest that
/// any of its vectors has.
pub(crate) const SUM_LANES: usize = if cfg!(target_arch = "aarch64") { 4 } else { 8 };

/// An array of what is said for each instruction set with vectors of floats, fastest first, and
/// what follows them.
///
/// `for_each_float_simd!(S => expression with the type S, last)`
macro_rules! for_each_float_simd {
    ($S:ident => $each:expr, $last:expr) => {
        [
            #[cfg(target_arch = "x86_64")]
            {
                type $S = $crate::simd::Avx512Float;
                $each
            },
            #[cfg(target_arch = "x86_64")]
            {
                type $S = $crate::simd::Avx2;
                $each
            },
            #[cfg(target_arch = "aarch64")]
            {
                type $S = $crate::simd::Neon;
                $each
            },
            #[cfg(target_feature = "simd128")]
            {
                type $S = $crate::simd::Simd128;
                $each
            },
            $last,
        ]
    };
}
pub(crate) use for_each_float_simd;

/// An array of what is said for each instruction set, fastest first, and what follows them.
///
/// `for_each_simd!(S<PACKED> => expression with the type S, last)`
macro_rules! for_each_simd {
    ($S:ident<$packed:literal> => $each:expr $(, $last:expr)?) => {
        [
            #[cfg(target_arch = "x86_64")]
            { type $S = $crate::simd::Avx512<$packed>; $each },
            #[cfg(target_arch = "x86_64")]
            { type $S = $crate::simd::AvxVnni<$packed>; $each },
            #[cfg(target_arch = "x86_64")]
            { type $S = $crate::simd::Avx2<$packed>; $each },
            #[cfg(target_arch = "aarch64")]
            { type $S = $crate::simd::I8mm<$packed>; $each },
            #[cfg(target_arch = "aarch64")]
            { type $S = $crate::simd::DotProd<$packed>; $each },
            #[cfg(target_arch = "aarch64")]
            { type $S = $crate::simd::Neon<$packed>; $each },
            #[cfg(target_feature = "simd128")]
            { type $S = $crate::simd::Simd128<$packed>; $each },
            $($last,)?
        ]
    };
}
pub(crate) use for_each_simd;

/// [`for_each_simd`] of rows as GGUF has them, but on WebAssembly only what follows: hot
/// formats have kernels for interleaved rows there, and every kernel makes the module
/// larger.
macro_rules! for_each_lean {
    ($S:ident => $each:expr, $last:expr) => {{
        #[cfg(target_family = "wasm")]
        {
            [$last]
        }
        #[cfg(not(target_family = "wasm"))]
        {
            $crate::simd::for_each_simd!($S<false> => $each, $last)
        }
    }};
}
pub(crate) use for_each_lean;

/// 16-bit numbers to look up, 64 at a time.
#[repr(align(64))]
pub(crate) struct Table<const PAIRS: usize>(pub [[u16; 64]; PAIRS]);

/// Work to be compiled for an instruction set.
pub trait Job<S> {
    /// What is computed.
    type Output;

    /// Implementations are `#[inline(always)]`.
    fn run(self, s: S) -> Self::Output;
}

/// Work on floats to be compiled for every level, see [`Level::run`](crate::Level::run).
pub trait FloatJob {
    /// What is computed.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, and so is all that they call in
    /// inner loops: what is not is compiled without the vectors of `S`.
    fn run<S: FloatSimd>(self, s: S) -> Self::Output;
}

/// A [`FloatJob`] as a job of each instruction set.
pub(crate) struct Each<J>(pub J);

impl<S: FloatSimd, J: FloatJob> Job<S> for Each<J> {
    type Output = J::Output;

    #[inline(always)]
    fn run(self, s: S) -> J::Output {
        self.0.run(s)
    }
}

/// What is still to be subtracted from values that a format unpacks for `S`.
pub(crate) const fn offset<S: Simd>(offset: u8) -> u8 {
    if S::SIGNED && offset == SIGN_BIT { 0 } else { offset }
}

/// What signed bytes are to be exclusively or-ed with for `S`, so that [`offset`] is right.
pub(crate) const fn sign_bit<S: Simd>() -> u8 {
    if S::SIGNED { 0 } else { SIGN_BIT }
}

const SIGN_BIT: u8 = 128;

/// A vector instruction set as work on floats sees it. Values prove that the CPU has it.
///
/// # Safety
///
/// [`SET`](Self::SET) names every instruction that the operations use: values are made where the
/// CPU has it.
pub unsafe trait FloatSimd: Copy {
    /// What the CPU must have.
    const SET: InstructionSet;
    /// f32 lanes of a vector, at most 16.
    const LANES: usize;
    /// Sums that find room in the CPU's registers beside what is added to them.
    const SUMS: usize;
    /// Rows of weights that share a vector, at most 2, each in as many lanes: sums are taken in
    /// the same lanes at every level of an architecture then.
    const ROWS: usize = 1;
    /// Tokens in a tile of four vectors of float weights, at most 6; chosen so that a tile fits
    /// in the registers.
    const FLOAT_TILE_TOKENS: usize;
    /// Whether [`prefetch`](Self::prefetch) needs a byte that can be read, which costs as much
    /// as reading it.
    const PREFETCH_READS: bool = false;

    /// f32 numbers.
    type F: Copy;

    /// The proof, if the CPU has the instructions of [`SET`](Self::SET).
    fn new() -> Option<Self> {
        // SAFETY: the CPU has been asked.
        Self::SET.is_available().then(|| unsafe { Self::new_unchecked() })
    }

    /// The proof.
    ///
    /// # Safety
    ///
    /// The CPU has the instructions of [`SET`](Self::SET).
    unsafe fn new_unchecked() -> Self;

    /// Runs `job` as code of this instruction set.
    fn run<J: Job<Self>>(self, job: J) -> J::Output;

    /// Asks for the cache line at `address` to be brought near.
    ///
    /// # Safety
    ///
    /// Where [`PREFETCH_READS`](Self::PREFETCH_READS), the byte at `address` can be read.
    unsafe fn prefetch(self, address: *const u8);
    /// The same, into the first-level cache.
    ///
    /// # Safety
    ///
    /// As for [`prefetch`](Self::prefetch).
    #[inline(always)]
    unsafe fn prefetch_near(self, address: *const u8) {
        // SAFETY: whoever calls makes sure that the byte can be read where that is needed.
        unsafe { self.prefetch(address) }
    }

    /// `value` in every lane.
    fn splat_f32(self, value: f32) -> Self::F;
    /// `a + b`
    fn add_f32(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub_f32(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul_f32(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once; in WebAssembly twice where the engine has no instruction for it.
    fn fma_f32(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;

    /// The first `LANES` little-endian f32 numbers of `bytes`.
    fn load_f32(self, bytes: &[u8]) -> Self::F;
    /// The first `LANES` little-endian f16 numbers of `bytes`.
    fn load_f16(self, bytes: &[u8]) -> Self::F;
    /// The first `LANES` little-endian bf16 numbers of `bytes`.
    fn load_bf16(self, bytes: &[u8]) -> Self::F;
    /// Writes the lanes to the first `LANES` elements of `to`.
    fn store_f32(self, a: Self::F, to: &mut [f32]);

    /// The first `LANES / ROWS` f32 numbers of each row.
    #[inline(always)]
    fn load_rows_f32(self, [first, _]: [&[u8]; 2]) -> Self::F {
        self.load_f32(first)
    }
    /// The first `LANES / ROWS` f16 numbers of each row.
    #[inline(always)]
    fn load_rows_f16(self, [first, _]: [&[u8]; 2]) -> Self::F {
        self.load_f16(first)
    }
    /// The first `LANES / ROWS` bf16 numbers of each row.
    #[inline(always)]
    fn load_rows_bf16(self, [first, _]: [&[u8]; 2]) -> Self::F {
        self.load_bf16(first)
    }
    /// The first `LANES / ROWS` f32 numbers of `bytes`, once for each row.
    #[inline(always)]
    fn repeat_f32(self, bytes: &[u8]) -> Self::F {
        self.load_f32(bytes)
    }

    /// Each row's sum of lanes: halves are added until one is left.
    #[inline(always)]
    fn sum_rows(self, a: Self::F) -> [f32; 2] {
        let mut lanes = [0.0; MAX_LANES];
        self.store_f32(a, &mut lanes);
        let n = Self::LANES / Self::ROWS;
        let mut half = n / 2;
        while half > 0 {
            for row in 0..Self::ROWS {
                for i in row * n..row * n + half {
                    lanes[i] += lanes[i + half];
                }
            }
            half /= 2;
        }
        [lanes[0], lanes[n % MAX_LANES]]
    }
}

/// What the kernels of quantised formats need of a vector instruction set as well.
pub(crate) trait Simd: FloatSimd {
    /// Whether weights are groups of rows as [`Kernel::pack`](crate::Kernel::pack)
    /// interleaves them.
    const PACKED: bool;
    /// Vectors of rows that share one load of activations in a tile.
    const TILE_VECTORS: usize;
    /// Tokens in a tile, at most 6; chosen so that a tile fits in the registers.
    const TILE_TOKENS: usize;
    /// Tokens whose sums stay in registers from the first column to the last, at most 6.
    const DIRECT_TOKENS: usize = Self::TILE_TOKENS;
    /// Up to how many tokens take turns, each with some of them, before panels are worth
    /// their while.
    const TURNS_TOKENS: usize = 0;
    /// Whether [`dot`](Self::dot) multiplies signed bytes with signed bytes. Values of
    /// which 128 is to be subtracted are unpacked without it then, see [`offset`].
    const SIGNED: bool = false;
    /// Whether [`numbers`](Self::numbers), [`decode`](Self::decode) and
    /// [`negate_some`](Self::negate_some) are there.
    const DECODES: bool = false;

    /// Integers.
    type I: Copy;
    /// The sum of up to eight calls of [`dot`](Self::dot), in a form of its own.
    type Dot: Copy;

    /// Dword `j` of 16 bytes of every row, in vector `j`. Also prefetches, but where
    /// [`PREFETCH_READS`](FloatSimd::PREFETCH_READS): formats do that need it there.
    fn transpose(self, rows: &LaneRows<'_>, at: usize) -> [Self::I; 4];
    /// The f16 at `at` of every row.
    #[inline(always)]
    fn load_f16_of_rows(self, rows: &LaneRows<'_>, at: usize) -> Self::F {
        if Self::PACKED {
            return self.load_f16(rows.group::<Self>(at, 2));
        }
        self.gather_f16(rows, at)
    }
    /// The same for rows as GGUF has them.
    fn gather_f16(self, rows: &LaneRows<'_>, at: usize) -> Self::F;
    /// The four bytes at `at` of every row.
    fn load_words_of_rows(self, rows: &LaneRows<'_>, at: usize) -> Self::I;
    /// The byte at `at` of every row.
    #[inline(always)]
    fn load_byte_of_rows(self, rows: &LaneRows<'_>, at: usize) -> Self::I {
        if Self::PACKED {
            return self.load_u8(rows.group::<Self>(at, 1));
        }
        self.and(self.load_words_of_rows(rows, at), self.splat(0xff))
    }
    fn splat(self, value: i32) -> Self::I;
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Lane-wise 32-bit shift to the left.
    fn shl(self, a: Self::I, bits: u32) -> Self::I;
    /// Lane-wise 32-bit shift to the right, zeros entering.
    fn shr(self, a: Self::I, bits: u32) -> Self::I;
    /// Lane-wise 32-bit shift to the right, copies of the sign entering.
    fn sar(self, a: Self::I, bits: u32) -> Self::I;
    fn add(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub(self, a: Self::I, b: Self::I) -> Self::I;
    /// The low 32 bits of the products.
    fn mul(self, a: Self::I, b: Self::I) -> Self::I;

    /// The first `4 * LANES` bytes.
    fn load_bytes(self, bytes: &[i8]) -> Self::I;
    /// Writes as many bytes as a vector has.
    fn store_bytes(self, a: Self::I, to: &mut [u8]);
    /// Adds the products of eight times two signed 16-bit numbers, in any lanes.
    fn dot_eight(self, sum: Self::I, a: &[i32; 8], b: &[i32; 8]) -> Self::I;
    /// As many runs of eight bytes as a vector has, one after another.
    fn collect_eights<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 8]) -> Self::I;
    /// As many runs of four bytes as a vector has, one after another.
    fn collect_fours<'a>(self, bytes: impl Fn(usize) -> &'a [u8; 4]) -> Self::I;
    /// Each of the numbers from `LANES / 4 * at` on eight times as 16 bits, in four lanes.
    fn repeat_i16(self, numbers: &[i16; 16], at: usize) -> Self::I;
    /// Bytes of `a` where a bit of `bits` is set, of `b` elsewhere; the lowest bit of
    /// a byte first.
    fn select(self, bits: &[u8], a: Self::I, b: Self::I) -> Self::I;
    /// In lane `i`, the sum of all lanes of `vectors[i]`.
    fn sum_each(self, vectors: &[Self::I; MAX_LANES]) -> Self::I;

    /// The byte of `table` that each byte of `indices`, below 16, asks for.
    fn lookup(self, table: &[u8; 16], indices: Self::I) -> Self::I;

    /// The 16-bit numbers of a table that 32 indices ask for; bits of an index beyond those of
    /// the table, whose size is a power of two, are ignored.
    fn numbers<const PAIRS: usize>(self, _: &Table<PAIRS>, _: &[u16; 32]) -> Self::I {
        unreachable!("asked for where DECODES is false")
    }
    /// A value for each byte: of every 8 bytes, those of `numbers` that `which` says are a
    /// number, from which byte `i` takes the six bits from `shifts[i]` on: the place of the
    /// value among `values`.
    fn decode(
        self,
        _numbers: Self::I,
        (_which, _shifts): (&[u8; 64], [u8; 8]),
        _values: &[u8; 64],
    ) -> Self::I {
        unreachable!("asked for where DECODES is false")
    }

    /// Minus the bytes of `a` where one of the bits from `4 * LANES * at` on is set, the lowest
    /// bit of a byte first.
    fn negate_some(self, _bits: &[u8; 32], _at: usize, _a: Self::I) -> Self::I {
        unreachable!("asked for where DECODES is false")
    }

    /// The start of a sum of products.
    fn dot_zero(self) -> Self::Dot;
    /// Adds the products of four unsigned and four signed bytes in each lane.
    ///
    /// `wide` says that `u` may exceed 15; `q` is never -128.
    fn dot(self, wide: bool, sum: Self::Dot, u: Self::I, q: Self::I) -> Self::Dot;
    /// The sum as 32-bit numbers.
    fn dot_sum(self, wide: bool, sum: Self::Dot) -> Self::I;
    /// Products of unsigned and signed bytes, the sums of two as signed 16-bit numbers;
    /// `u` is at most 129, so that they fit.
    fn products(self, u: Self::I, q: Self::I) -> Self::I;
    /// Products of unsigned 16-bit numbers, their low halves.
    fn mul_u16(self, a: Self::I, b: Self::I) -> Self::I;
    /// Products of unsigned 16-bit numbers, their high halves.
    fn mul_high_u16(self, a: Self::I, b: Self::I) -> Self::I;
    /// Adds the products of two signed 16-bit numbers in each lane.
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;

    /// 32-bit integers to f32, to nearest.
    fn to_f32(self, a: Self::I) -> Self::F;
    /// The f32 with the bits of each lane.
    fn f32_from_bits(self, a: Self::I) -> Self::F;
    /// The f16 in the low half of each lane; the high halves are ignored.
    fn f16_to_f32(self, a: Self::I) -> Self::F;

    /// The first `LANES` bytes.
    fn load_u8(self, bytes: &[u8]) -> Self::I;
    /// For `T` tokens and `G` vectors of rows the sum of up to eight calls of
    /// [`dot`](Self::dot), `[token][vector of rows]`: `w[g][j]` with `x[t][j]` in every lane.
    #[inline(always)]
    fn dots<const G: usize, const T: usize>(
        self,
        wide: bool,
        w: [&[Self::I]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[Self::I; G]; T] {
        dots_in_order(self, wide, w, x)
    }

    /// [`dots`](Self::dots) of up to eight vectors of values below 64.
    #[inline(always)]
    fn dots_below_64<const G: usize, const T: usize>(
        self,
        w: [&[Self::I]; G],
        x: [&[[i8; 4]]; T],
    ) -> [[Self::I; G]; T] {
        self.dots(true, w, x)
    }

    /// Four bytes, the same in every lane.
    #[inline(always)]
    fn splat_bytes(self, bytes: [i8; 4]) -> Self::I {
        self.splat(i32::from_le_bytes(bytes.map(|byte| byte as u8)))
    }
}

/// [`Simd::dots`] by [`Simd::dot`], one after another.
#[inline(always)]
fn dots_in_order<S: Simd, const G: usize, const T: usize>(
    s: S,
    wide: bool,
    w: [&[S::I]; G],
    x: [&[[i8; 4]]; T],
) -> [[S::I; G]; T] {
    let mut dots = [[s.dot_zero(); G]; T];
    for j in 0..w[0].len() {
        for t in 0..T {
            let q = s.splat_bytes(x[t][j]);
            for g in 0..G {
                dots[t][g] = s.dot(wide, dots[t][g], w[g][j], q);
            }
        }
    }
    let mut sums = [[s.splat(0); G]; T];
    for t in 0..T {
        for g in 0..G {
            sums[t][g] = s.dot_sum(wide, dots[t][g]);
        }
    }
    sums
}

/// Defines operations that are one expression of intrinsics each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! operations {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: $ty),*) -> $ret {
                #[allow(unused_unsafe, reason = "not every expression has an intrinsic")]
                // SAFETY: `self` proves that the CPU has the instructions, and
                // the expression reads no memory.
                unsafe {
                    $body
                }
            }
        )*
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use operations;

/// Defines the prefetches of every x86-64.
#[cfg(target_arch = "x86_64")]
macro_rules! prefetches {
    () => {
        #[inline(always)]
        unsafe fn prefetch(self, address: *const u8) {
            // SAFETY: every x86-64 has the instruction; it reads nothing and never fails.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
        }

        #[inline(always)]
        unsafe fn prefetch_near(self, address: *const u8) {
            // SAFETY: every x86-64 has the instruction; it reads nothing and never fails.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }
    };
}
#[cfg(target_arch = "x86_64")]
use prefetches;
