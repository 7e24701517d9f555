//! Products of queries with a page of keys, and weighted sums of runs of values,
//! for a few query rows at once.
//!
//! Keys of a page lie `[key width][positions]`, values `[positions][value width]`
//! (see [`crate::kv`]), so that a register holds neighbours of either. Each product
//! is summed over the key's width in order, each output over positions in order:
//! results depend neither on the rows beside a row nor on how positions fall into runs.

mod lanes;

use half::f16;

/// The most query rows that share what is loaded.
pub(super) use lanes::most_rows;

/// Storage of keys and values.
pub(crate) trait Element: bytemuck::Pod + Send + Sync {
    #[cfg(any(test, not(target_feature = "simd128")))]
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
    #[cfg(any(test, not(target_feature = "simd128")))]
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
    #[cfg(any(test, not(target_feature = "simd128")))]
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

/// `out[r][i] = queries[r] . keys[..][i]` for up to [`most_rows`] rows and every `i < stride`.
///
/// Rows of `queries` are `queries.len() / n_rows` apart, those of `out` `out_stride`;
/// `keys` is `[width][stride]`, and `stride` a multiple of [`crate::kv::LANES`]. On the way,
/// memory that is wanted next is fetched `ahead`.
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
    ahead: &[u8],
) {
    let width = queries.len() / n_rows;
    assert!(
        n_rows <= most_rows() && queries.len() == n_rows * width && keys.len() == width * stride
    );
    assert!(stride.is_multiple_of(crate::kv::LANES));
    assert!(stride <= out_stride && (n_rows - 1) * out_stride + stride <= out.len());
    let job = Products { queries, width, keys, stride, out, out_stride, ahead };
    lanes::run(n_rows, job);
}

/// `out[r] += sum over i of weights[r][i] * values[i]` for up to [`most_rows`] rows.
///
/// Rows of `weights` are `weight_stride` apart, of which the first `n` count; `values` is
/// `[n][stride]`, and `stride`, a multiple of [`crate::kv::LANES`], the width of `out`. On the
/// way, memory that is wanted next is fetched `ahead`.
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
    ahead: &[u8],
) {
    let n = values.len() / stride;
    assert!(n_rows <= most_rows() && values.len() == n * stride && out.len() == n_rows * stride);
    assert!(stride.is_multiple_of(crate::kv::LANES));
    assert!((n_rows - 1) * weight_stride + n <= weights.len());
    lanes::run(n_rows, AddWeighted { weights, weight_stride, values, stride, n, out, ahead });
}

/// `out[i] = values[i]`, of which there are a multiple of [`crate::kv::LANES`].
///
/// # Panics
/// When lengths do not fit.
pub(super) fn unpack<T: Element>(values: &[T], out: &mut [f32]) {
    assert!(values.len() == out.len() && out.len().is_multiple_of(crate::kv::LANES));
    lanes::run(1, Unpack { values, out });
}

/// Asks for the lines of `n` elements of `T` from the `first` on, as far as they begin in
/// `ahead`: a run read step by step fetches as much of the next one with every step. Processors
/// that read ahead by themselves do not do so across pages of 4 KiB, and a run of keys is
/// no longer.
#[inline(always)]
fn fetch<T>(ahead: &[u8], first: usize, n: usize) {
    let first = first * size_of::<T>();
    if first < ahead.len() {
        for line in 0..(n * size_of::<T>()).div_ceil(LINE_BYTES) {
            fetch_line(ahead.as_ptr().wrapping_add(first + line * LINE_BYTES));
        }
    }
}

/// Asks for the line at `address`, where nothing need be.
#[inline(always)]
fn fetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction; it reads nothing and never fails.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    // Other architectures have no such function in Rust.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// What memory is read in.
const LINE_BYTES: usize = 64;

/// Work on `R` rows with vectors of one kind.
trait Job {
    /// # Safety
    /// The CPU has the vectors' instructions; lengths have been checked for `R` rows.
    unsafe fn run<V: lanes::Lanes, const R: usize>(self);
}

struct Unpack<'a, T> {
    values: &'a [T],
    out: &'a mut [f32],
}

impl<T: Element> Job for Unpack<'_, T> {
    #[inline(always)]
    unsafe fn run<V: lanes::Lanes, const R: usize>(self) {
        for at in (0..self.out.len()).step_by(V::N) {
            // SAFETY: both have the same length, a multiple of the vector's.
            unsafe { V::load(self.values.as_ptr().add(at)).store(self.out.as_mut_ptr().add(at)) };
        }
    }
}

struct Products<'a, T> {
    queries: &'a [f32],
    width: usize,
    keys: &'a [T],
    stride: usize,
    out: &'a mut [f32],
    out_stride: usize,
    ahead: &'a [u8],
}

impl<T: Element> Products<'_, T> {
    /// Columns from `at` on, `C` vectors of them.
    ///
    /// # Safety
    /// As for [`Job::run`], and the columns are inside the stride.
    #[inline(always)]
    unsafe fn columns<V: lanes::Lanes, const R: usize, const C: usize, const AHEAD: bool>(
        &mut self,
        at: usize,
    ) {
        let mut sums = [[V::splat(0.0); C]; R];
        for i in 0..self.width {
            if AHEAD {
                fetch::<T>(self.ahead, at * self.width + i * C * V::N, C * V::N);
            }
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

    /// # Safety
    /// As for [`Job::run`].
    #[inline(always)]
    unsafe fn all_columns<V: lanes::Lanes, const R: usize, const AHEAD: bool>(&mut self) {
        let mut at = 0;
        while 2 * R <= V::SUMS && at + 2 * V::N <= self.stride {
            // SAFETY: the columns are inside the stride.
            unsafe { self.columns::<V, R, 2, AHEAD>(at) };
            at += 2 * V::N;
        }
        while at < self.stride {
            // SAFETY: the stride is a multiple of the vector.
            unsafe { self.columns::<V, R, 1, AHEAD>(at) };
            at += V::N;
        }
    }
}

impl<T: Element> Job for Products<'_, T> {
    #[inline(always)]
    unsafe fn run<V: lanes::Lanes, const R: usize>(mut self) {
        match self.ahead {
            // SAFETY: the caller's promises.
            [] => unsafe { self.all_columns::<V, R, false>() },
            // SAFETY: the caller's promises.
            _ => unsafe { self.all_columns::<V, R, true>() },
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
    ahead: &'a [u8],
}

impl<T: Element> AddWeighted<'_, T> {
    /// Columns from `at` on, `C` vectors of them.
    ///
    /// # Safety
    /// As for [`Job::run`], and the columns are inside the stride.
    #[inline(always)]
    unsafe fn columns<V: lanes::Lanes, const R: usize, const C: usize, const AHEAD: bool>(
        &mut self,
        at: usize,
    ) {
        let out = self.out.as_mut_ptr();
        let place = |r: usize, c: usize| r * self.stride + at + c * V::N;
        // SAFETY: inside row `r` of the result.
        let load = |r: usize, c: usize| unsafe { V::load(out.add(place(r, c)).cast_const()) };
        let mut sums: [[V; C]; R] = std::array::from_fn(|r| std::array::from_fn(|c| load(r, c)));
        for i in 0..self.n {
            if AHEAD {
                fetch::<T>(self.ahead, at * self.n + i * C * V::N, C * V::N);
            }
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

    /// # Safety
    /// As for [`Job::run`].
    #[inline(always)]
    unsafe fn all_columns<V: lanes::Lanes, const R: usize, const AHEAD: bool>(&mut self) {
        let mut at = 0;
        while 2 * R <= V::SUMS && at + 2 * V::N <= self.stride {
            // SAFETY: the columns are inside the stride.
            unsafe { self.columns::<V, R, 2, AHEAD>(at) };
            at += 2 * V::N;
        }
        while at < self.stride {
            // SAFETY: the stride is a multiple of the vector.
            unsafe { self.columns::<V, R, 1, AHEAD>(at) };
            at += V::N;
        }
    }
}

impl<T: Element> Job for AddWeighted<'_, T> {
    #[inline(always)]
    unsafe fn run<V: lanes::Lanes, const R: usize>(mut self) {
        match self.ahead {
            // SAFETY: the caller's promises.
            [] => unsafe { self.all_columns::<V, R, false>() },
            // SAFETY: the caller's promises.
            _ => unsafe { self.all_columns::<V, R, true>() },
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
        for n_rows in 1..=most_rows() {
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

    #[test]
    fn unpacked_values_are_the_same_values() {
        let halves: Vec<f16> = values(80, 5.0).into_iter().map(f16::from_f32).collect();
        let mut unpacked = vec![0.0; halves.len()];
        unpack(&halves, &mut unpacked);
        assert!(unpacked.iter().zip(&halves).all(|(value, half)| *value == half.to_f32()));
    }

    fn check_products<T: Element>(n_rows: usize, stride: usize, keys: &[T]) {
        let (width, out_stride) = (keys.len() / stride, stride + 3);
        let queries = values(n_rows * width, 1.0);
        let mut out = vec![0.0; n_rows * out_stride];
        let ahead = &bytemuck::cast_slice(keys)[..size_of_val(keys) / 2];
        products(n_rows, &queries, keys, stride, &mut out, out_stride, ahead);
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
        let ahead = &bytemuck::cast_slice(rows)[..size_of_val(rows) / 2];
        add_weighted(n_rows, &weights, weight_stride, rows, stride, &mut out, ahead);
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let weight = |at: usize| f64::from(weights[row * weight_stride + at]);
            let value = |at: usize| f64::from(rows[at * stride + column].to_f32());
            let sum: f64 = (0..n).map(|at| weight(at) * value(at)).sum();
            assert!(near(*got, f64::from(before[i]) + sum), "{row} {column}");
        }
    }
}
