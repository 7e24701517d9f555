//! Products of queries with a page of keys, and weighted sums of runs of values,
//! for a few query rows at once.
//!
//! Keys of a page lie `[key width][positions]`, values `[positions][value width]`
//! (see [`crate::kv`]), so that a register holds neighbours of either. Each product
//! is summed over the key's width in order, each output over positions in order:
//! results depend neither on the rows beside a row nor on how positions fall into runs.

use half::f16;

/// Query rows that share what is loaded.
pub(super) const ROWS: usize = 6;

/// Storage of keys and values.
pub(crate) trait Element: Copy + Send + Sync {
    fn to_f32(self) -> f32;

    /// # Safety
    /// `from` points to 8 elements; the CPU has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load8(from: *const Self) -> std::arch::x86_64::__m256;

    /// # Safety
    /// `from` points to 16 elements; the CPU has AVX-512F.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load16(from: *const Self) -> std::arch::x86_64::__m512;

    /// # Safety
    /// `from` points to 4 elements.
    #[cfg(target_arch = "aarch64")]
    unsafe fn load4(from: *const Self) -> std::arch::aarch64::float32x4_t;

    /// # Safety
    /// `from` points to 8 elements.
    #[cfg(target_feature = "simd128")]
    unsafe fn load_pair(from: *const Self) -> [std::arch::wasm32::v128; 2];
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load8(from: *const f32) -> std::arch::x86_64::__m256 {
        // SAFETY: the caller's promise.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(from) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load16(from: *const f32) -> std::arch::x86_64::__m512 {
        // SAFETY: the caller's promise.
        unsafe { std::arch::x86_64::_mm512_loadu_ps(from) }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn load4(from: *const f32) -> std::arch::aarch64::float32x4_t {
        // SAFETY: the caller's promise.
        unsafe { std::arch::aarch64::vld1q_f32(from) }
    }

    #[cfg(target_feature = "simd128")]
    #[inline(always)]
    unsafe fn load_pair(from: *const f32) -> [std::arch::wasm32::v128; 2] {
        use std::arch::wasm32::v128_load;
        // SAFETY: the caller's promise.
        unsafe { [v128_load(from.cast()), v128_load(from.add(4).cast())] }
    }
}

impl Element for f16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load8(from: *const f16) -> std::arch::x86_64::__m256 {
        use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps};
        // SAFETY: the caller's promise; an f16 is two bytes.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load16(from: *const f16) -> std::arch::x86_64::__m512 {
        use std::arch::x86_64::{_mm256_loadu_si256, _mm512_cvtph_ps};
        // SAFETY: the caller's promise; an f16 is two bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    unsafe fn load4(from: *const f16) -> std::arch::aarch64::float32x4_t {
        use std::arch::aarch64::{vcvt_f32_f16, vld1_u16, vreinterpret_f16_u16};
        // SAFETY: the caller's promise; an f16 is two bytes.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
    }

    #[cfg(target_feature = "simd128")]
    #[inline(always)]
    unsafe fn load_pair(from: *const f16) -> [std::arch::wasm32::v128; 2] {
        // SAFETY: the caller's promise; an f16 is two bytes.
        realm_quant::vector::eight_f16(unsafe { std::arch::wasm32::v128_load(from.cast()) })
    }
}

/// `out[r][i] = queries[r] . keys[..][i]` for up to [`ROWS`] rows and every `i < stride`.
///
/// Rows of `queries` are `queries.len() / n_rows` apart, those of `out` `out_stride`;
/// `keys` is `[width][stride]`, and `stride` a multiple of [`crate::kv::LANES`].
///
/// # Panics
/// When lengths do not fit.
pub(super) fn products<T: Element>(
    n_rows: usize,
    queries: &[f32],
    keys: &[T],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let width = queries.len() / n_rows;
    assert!(n_rows <= ROWS && queries.len() == n_rows * width && keys.len() == width * stride);
    assert!(stride.is_multiple_of(crate::kv::LANES));
    assert!(stride <= out_stride && (n_rows - 1) * out_stride + stride <= out.len());
    let job = Products { queries, width, keys, stride, out, out_stride };
    lanes::run(n_rows, job);
}

/// `out[r] += sum over i of weights[r][i] * values[i]` for up to [`ROWS`] rows.
///
/// Rows of `weights` are `weight_stride` apart, of which the first `n` count; `values` is
/// `[n][stride]`, and `stride`, a multiple of [`crate::kv::LANES`], the width of `out`.
///
/// # Panics
/// When lengths do not fit.
pub(super) fn add_weighted<T: Element>(
    n_rows: usize,
    weights: &[f32],
    weight_stride: usize,
    values: &[T],
    stride: usize,
    out: &mut [f32],
) {
    let n = values.len() / stride;
    assert!(n_rows <= ROWS && values.len() == n * stride && out.len() == n_rows * stride);
    assert!(stride.is_multiple_of(crate::kv::LANES));
    assert!((n_rows - 1) * weight_stride + n <= weights.len());
    lanes::run(n_rows, AddWeighted { weights, weight_stride, values, stride, n, out });
}

/// Work on `R` rows with vectors of one kind.
trait Job {
    /// # Safety
    /// The CPU has the vectors' instructions; lengths have been checked for `R` rows.
    unsafe fn run<V: lanes::Lanes, const R: usize>(self);
}

struct Products<'a, T> {
    queries: &'a [f32],
    width: usize,
    keys: &'a [T],
    stride: usize,
    out: &'a mut [f32],
    out_stride: usize,
}

impl<T: Element> Products<'_, T> {
    /// Columns from `at` on, `C` vectors of them.
    ///
    /// # Safety
    /// As for [`Job::run`], and the columns are inside the stride.
    #[inline(always)]
    unsafe fn columns<V: lanes::Lanes, const R: usize, const C: usize>(&mut self, at: usize) {
        let mut sums = [[V::splat(0.0); C]; R];
        for i in 0..self.width {
            // SAFETY: row `i` of the keys, columns inside the stride.
            let key = unsafe { self.keys.as_ptr().add(i * self.stride + at) };
            // SAFETY: as above; the instructions are the caller's promise.
            let keys: [V; C] = std::array::from_fn(|c| unsafe { V::load(key.add(c * V::N)) });
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: value `i` of query `r`.
                let q = V::splat(unsafe { *self.queries.get_unchecked(r * self.width + i) });
                for (sum, key) in sums.iter_mut().zip(keys) {
                    *sum = sum.add_product(q, key);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let at = r * self.out_stride + at + c * V::N;
                // SAFETY: inside row `r` of the result.
                unsafe { sum.store(self.out.as_mut_ptr().add(at)) };
            }
        }
    }
}

impl<T: Element> Job for Products<'_, T> {
    #[inline(always)]
    unsafe fn run<V: lanes::Lanes, const R: usize>(mut self) {
        let mut at = 0;
        while at + 2 * V::N <= self.stride {
            // SAFETY: the columns are inside the stride.
            unsafe { self.columns::<V, R, 2>(at) };
            at += 2 * V::N;
        }
        while at < self.stride {
            // SAFETY: the stride is a multiple of the vector.
            unsafe { self.columns::<V, R, 1>(at) };
            at += V::N;
        }
    }
}

struct AddWeighted<'a, T> {
    weights: &'a [f32],
    weight_stride: usize,
    values: &'a [T],
    stride: usize,
    n: usize,
    out: &'a mut [f32],
}

impl<T: Element> AddWeighted<'_, T> {
    /// Columns from `at` on, `C` vectors of them.
    ///
    /// # Safety
    /// As for [`Job::run`], and the columns are inside the stride.
    #[inline(always)]
    unsafe fn columns<V: lanes::Lanes, const R: usize, const C: usize>(&mut self, at: usize) {
        let out = self.out.as_mut_ptr();
        let place = |r: usize, c: usize| r * self.stride + at + c * V::N;
        // SAFETY: inside row `r` of the result.
        let load = |r: usize, c: usize| unsafe { V::load(out.add(place(r, c)).cast_const()) };
        let mut sums: [[V; C]; R] = std::array::from_fn(|r| std::array::from_fn(|c| load(r, c)));
        for i in 0..self.n {
            // SAFETY: value `i`, columns inside the stride.
            let value = unsafe { self.values.as_ptr().add(i * self.stride + at) };
            // SAFETY: as above; the instructions are the caller's promise.
            let values: [V; C] = std::array::from_fn(|c| unsafe { V::load(value.add(c * V::N)) });
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: weight `i` of row `r`.
                let w =
                    V::splat(unsafe { *self.weights.get_unchecked(r * self.weight_stride + i) });
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = sum.add_product(w, value);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                // SAFETY: inside row `r` of the result.
                unsafe { sum.store(out.add(place(r, c))) };
            }
        }
    }
}

impl<T: Element> Job for AddWeighted<'_, T> {
    #[inline(always)]
    unsafe fn run<V: lanes::Lanes, const R: usize>(mut self) {
        let mut at = 0;
        while at + 2 * V::N <= self.stride {
            // SAFETY: the columns are inside the stride.
            unsafe { self.columns::<V, R, 2>(at) };
            at += 2 * V::N;
        }
        while at < self.stride {
            // SAFETY: the stride is a multiple of the vector.
            unsafe { self.columns::<V, R, 1>(at) };
            at += V::N;
        }
    }
}

/// Vectors of each instruction set.
mod lanes {
    use super::{Element, Job};

    /// A vector of f32. Its operations are `#[inline(always)]` and belong inside a
    /// function that is compiled for the instruction set.
    pub trait Lanes: Copy {
        const N: usize;

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
    #[derive(Clone, Copy)]
    struct Plain([f32; 8]);

    impl Lanes for Plain {
        const N: usize = 8;

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

        #[target_feature(enable = "avx2,fma,f16c,avx512f")]
        pub unsafe fn avx512<J: super::Job>(n_rows: usize, job: J) {
            // SAFETY: the caller's promises.
            unsafe { super::rows::<__m512, J>(n_rows, job) }
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        pub unsafe fn avx2<J: super::Job>(n_rows: usize, job: J) {
            // SAFETY: the caller's promises.
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

    /// Runs a job with the widest vectors there are; lengths have been checked for `n_rows`.
    pub fn run<J: Job>(n_rows: usize, job: J) {
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if has_avx2 && is_x86_feature_detected!("avx512f") {
                // SAFETY: the CPU has the instructions.
                return unsafe { x86::avx512(n_rows, job) };
            }
            if has_avx2 {
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
                _ => unreachable!("at most ROWS rows"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.731).sin()).collect()
    }

    fn near(got: f32, want: f64) -> bool {
        (f64::from(got) - want).abs() < 1e-5
    }

    /// Any number of rows, width and number of positions against sums in f64.
    #[test]
    fn blocks_of_any_shape_equal_plain_sums() {
        for n_rows in 1..=ROWS {
            for stride in [16, 32, 48, 80] {
                for n in [1, 7, 24, 64] {
                    let rows = values(n * stride, 2.0);
                    let halves: Vec<f16> = rows.iter().map(|v| f16::from_f32(*v)).collect();
                    check_products(n_rows, stride, &rows);
                    check_products(n_rows, stride, &halves);
                    check_sums(n_rows, stride, &rows);
                    check_sums(n_rows, stride, &halves);
                }
            }
        }
    }

    fn check_products<T: Element>(n_rows: usize, stride: usize, keys: &[T]) {
        let (width, out_stride) = (keys.len() / stride, stride + 3);
        let queries = values(n_rows * width, 1.0);
        let mut out = vec![0.0; n_rows * out_stride];
        products(n_rows, &queries, keys, stride, &mut out, out_stride);
        for (row, query) in queries.chunks_exact(width).enumerate() {
            for column in 0..stride {
                let key = keys[column..].iter().step_by(stride);
                let want: f64 =
                    query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(k.to_f32())).sum();
                assert!(near(out[row * out_stride + column], want), "{row} {column}");
            }
        }
    }

    fn check_sums<T: Element>(n_rows: usize, stride: usize, rows: &[T]) {
        let n = rows.len() / stride;
        let weight_stride = n + 2;
        let weights = values(n_rows * weight_stride, 3.0);
        let before = values(n_rows * stride, 4.0);
        let mut out = before.clone();
        add_weighted(n_rows, &weights, weight_stride, rows, stride, &mut out);
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let weight = |at: usize| f64::from(weights[row * weight_stride + at]);
            let value = |at: usize| f64::from(rows[at * stride + column].to_f32());
            let sum: f64 = (0..n).map(|at| weight(at) * value(at)).sum();
            assert!(near(*got, f64::from(before[i]) + sum), "{row} {column}");
        }
    }
}
