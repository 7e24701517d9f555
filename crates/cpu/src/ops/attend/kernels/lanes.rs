//! Vectors of each instruction set.

use super::{Element, Job};

/// A vector of f32. Its operations are `#[inline(always)]` and belong inside a
/// function that is compiled for the instruction set.
pub trait Lanes: Copy {
    const N: usize;

    /// Sums that find room in the CPU's registers beside what is added to them.
    const SUMS: usize;

    fn splat(value: f32) -> Self;

    /// # Safety
    /// `from` points to `N` elements; the CPU has the instructions.
    unsafe fn load<T: Element>(from: *const T) -> Self;

    /// `self + a * b`
    fn add_product(self, a: Self, b: Self) -> Self;

    /// # Safety
    /// `to` points to `N` values.
    unsafe fn store(self, to: *mut f32);
}

/// What the compiler makes of plain code.
#[cfg(not(target_feature = "simd128"))]
#[derive(Clone, Copy)]
struct Plain([f32; 8]);

#[cfg(not(target_feature = "simd128"))]
impl Lanes for Plain {
    const N: usize = 8;
    const SUMS: usize = 6;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Plain([value; 8])
    }

    #[inline(always)]
    unsafe fn load<T: Element>(from: *const T) -> Self {
        // SAFETY: the caller's promise.
        Plain(std::array::from_fn(|i| unsafe { *from.add(i) }.to_f32()))
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] + a.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; an array of f32 has their alignment.
        unsafe { *to.cast() = self.0 }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Element, Lanes};

    impl Lanes for __m256 {
        const N: usize = 8;
        const SUMS: usize = 12;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: vectors of this kind are only used where the CPU has AVX2.
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load<T: Element>(from: *const T) -> Self {
            // SAFETY: the caller's promise.
            unsafe { T::load8(from) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: vectors of this kind are only used where the CPU has FMA.
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(to, self) }
        }
    }

    impl Lanes for __m512 {
        const N: usize = 16;
        const SUMS: usize = 24;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: vectors of this kind are only used where the CPU has AVX-512.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load<T: Element>(from: *const T) -> Self {
            // SAFETY: the caller's promise.
            unsafe { T::load16(from) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: vectors of this kind are only used where the CPU has AVX-512.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(to, self) }
        }
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }

    pub fn has_avx512() -> bool {
        has_avx2() && is_x86_feature_detected!("avx512f")
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f")]
    pub fn avx512<J: super::Job>(n_rows: usize, job: J) {
        // SAFETY: the CPU has the instructions of these vectors, or this could not be called.
        unsafe { super::rows::<__m512, J>(n_rows, job) }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn avx2<J: super::Job>(n_rows: usize, job: J) {
        // SAFETY: the CPU has the instructions of these vectors, or this could not be called.
        unsafe { super::rows::<__m256, J>(n_rows, job) }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    use super::{Element, Lanes};

    /// Two vectors: with one, there are too few sums to keep the CPU busy.
    #[derive(Clone, Copy)]
    pub struct Pair([float32x4_t; 2]);

    impl Lanes for Pair {
        const N: usize = 8;
        const SUMS: usize = 12;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: vectors of this kind are only used where the CPU has NEON.
            Self([unsafe { vdupq_n_f32(value) }; 2])
        }

        #[inline(always)]
        unsafe fn load<T: Element>(from: *const T) -> Self {
            // SAFETY: the caller's promise.
            unsafe { Self([T::load4(from), T::load4(from.add(4))]) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: vectors of this kind are only used where the CPU has NEON.
            Self(std::array::from_fn(|i| unsafe { vfmaq_f32(self.0[i], a.0[i], b.0[i]) }))
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe {
                vst1q_f32(to, self.0[0]);
                vst1q_f32(to.add(4), self.0[1]);
            }
        }
    }
}

#[cfg(target_feature = "simd128")]
mod wasm {
    use std::arch::wasm32::*;

    use realm_quant::vector::multiply_add;

    use super::{Element, Lanes};

    /// Two vectors.
    #[derive(Clone, Copy)]
    pub struct Pair([v128; 2]);

    impl Lanes for Pair {
        const N: usize = 8;
        const SUMS: usize = 6;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self([f32x4_splat(value); 2])
        }

        #[inline(always)]
        unsafe fn load<T: Element>(from: *const T) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { T::load_pair(from) })
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            Self(std::array::from_fn(|i| multiply_add(a.0[i], b.0[i], self.0[i])))
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's promise.
            unsafe {
                v128_store(to.cast(), self.0[0]);
                v128_store(to.add(4).cast(), self.0[1]);
            }
        }
    }
}

/// How many rows [`run`] takes: with wider vectors there are more registers for their sums.
pub fn most_rows() -> usize {
    #[cfg(target_arch = "x86_64")]
    if x86::has_avx512() {
        return 8;
    }
    6
}

/// Runs a job with the widest vectors there are; lengths have been checked for `n_rows`.
pub fn run<J: Job>(n_rows: usize, job: J) {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: the CPU has the instructions.
            return unsafe { x86::avx512(n_rows, job) };
        }
        if x86::has_avx2() {
            // SAFETY: the CPU has the instructions.
            return unsafe { x86::avx2(n_rows, job) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the CPU has the instructions.
        return unsafe { rows::<arm::Pair, J>(n_rows, job) };
    }
    #[cfg(target_feature = "simd128")]
    // SAFETY: the module was compiled with the instructions.
    unsafe {
        rows::<wasm::Pair, J>(n_rows, job)
    }
    #[cfg(not(target_feature = "simd128"))]
    // SAFETY: plain code needs no instructions.
    unsafe {
        rows::<Plain, J>(n_rows, job)
    }
}

/// # Safety
/// As for [`Job::run`].
#[inline(always)]
unsafe fn rows<V: Lanes, J: Job>(n_rows: usize, job: J) {
    // SAFETY: the caller's promises.
    unsafe {
        match n_rows {
            1 => job.run::<V, 1>(),
            2 => job.run::<V, 2>(),
            3 => job.run::<V, 3>(),
            4 => job.run::<V, 4>(),
            5 => job.run::<V, 5>(),
            6 => job.run::<V, 6>(),
            #[cfg(target_arch = "x86_64")]
            7 => job.run::<V, 7>(),
            #[cfg(target_arch = "x86_64")]
            8 => job.run::<V, 8>(),
            _ => unreachable!("at most `most_rows` rows"),
        }
    }
}
