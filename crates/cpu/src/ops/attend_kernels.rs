//! Products of queries with runs of keys, and weighted sums of runs of values.
//!
//! A run is contiguous `[n][width]` in the cache's own storage. Each key's
//! product is summed in eight lanes and a tail, each value is added in the order
//! of positions: results do not depend on how positions fall into runs.

use half::f16;

/// Storage of keys and values.
pub(crate) trait Element: Copy + Send + Sync {
    fn to_f32(self) -> f32;

    /// Eight elements as one register.
    ///
    /// # Safety
    /// `from` points to eight elements; the CPU has AVX2 and F16C.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load8(from: *const Self) -> std::arch::x86_64::__m256;
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
}

/// `out[i] = scale * (query . keys[i])` for a run of keys.
///
/// # Panics
/// When `keys` is not `out.len()` keys of the query's width.
pub(crate) fn scores<T: Element>(query: &[f32], keys: &[T], scale: f32, out: &mut [f32]) {
    assert_eq!(keys.len(), out.len() * query.len(), "keys of the query's width");
    #[cfg(target_arch = "x86_64")]
    if x86::is_available() {
        // SAFETY: the CPU has the instructions; lengths are checked above.
        return unsafe { x86::scores(query, keys, scale, out) };
    }
    for (out, key) in out.iter_mut().zip(keys.chunks_exact(query.len())) {
        let mut lanes = [0.0; 8];
        for (i, (q, k)) in query.iter().zip(key).enumerate() {
            lanes[i % 8] += q * k.to_f32();
        }
        *out = scale * lanes.iter().sum::<f32>();
    }
}

/// `out += sum over i of weights[i] * values[i]` for a run of values.
///
/// # Panics
/// When `values` is not `weights.len()` values of the output's width.
pub(crate) fn add_weighted<T: Element>(weights: &[f32], values: &[T], out: &mut [f32]) {
    assert_eq!(values.len(), weights.len() * out.len(), "values of the output's width");
    #[cfg(target_arch = "x86_64")]
    if x86::is_available() {
        // SAFETY: the CPU has the instructions; lengths are checked above.
        return unsafe { x86::add_weighted(weights, values, out) };
    }
    for (weight, value) in weights.iter().zip(values.chunks_exact(out.len())) {
        out.iter_mut().zip(value).for_each(|(out, v)| *out += weight * v.to_f32());
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };

    use super::Element;

    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn sum(lanes: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }

    /// Products of `N` keys, `width` apart, with one query: `N` independent sums.
    ///
    /// # Safety
    /// `keys` points to `N * query.len()` elements.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn products<T: Element, const N: usize>(query: &[f32], keys: *const T) -> [f32; N] {
        let width = query.len();
        let whole = width / 8 * 8;
        let mut lanes = [_mm256_setzero_ps(); N];
        for at in (0..whole).step_by(8) {
            // SAFETY: `at + 8 <= query.len()`.
            let q = unsafe { _mm256_loadu_ps(query.as_ptr().add(at)) };
            for (i, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: inside key `i`, by the caller's promise.
                let k = unsafe { T::load8(keys.add(i * width + at)) };
                *lanes = _mm256_fmadd_ps(q, k, *lanes);
            }
        }
        std::array::from_fn(|i| {
            let mut total = sum(lanes[i]);
            for (at, q) in query.iter().enumerate().skip(whole) {
                // SAFETY: inside key `i`, by the caller's promise.
                total += q * unsafe { *keys.add(i * width + at) }.to_f32();
            }
            total
        })
    }

    /// # Safety
    /// The CPU has the instructions; `keys` is `out.len()` keys of the query's width.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn scores<T: Element>(query: &[f32], keys: &[T], scale: f32, out: &mut [f32]) {
        let (fours, rest) = out.as_chunks_mut::<4>();
        let n_fours = fours.len();
        for (out, keys) in fours.iter_mut().zip(keys.chunks_exact(4 * query.len())) {
            // SAFETY: four keys.
            *out = unsafe { products::<T, 4>(query, keys.as_ptr()) }.map(|product| scale * product);
        }
        let keys = keys[n_fours * 4 * query.len()..].chunks_exact(query.len());
        for (out, key) in rest.iter_mut().zip(keys) {
            // SAFETY: one key.
            *out = scale * unsafe { products::<T, 1>(query, key.as_ptr()) }[0];
        }
    }

    /// Adds the values' columns from `at` on, `N` registers wide.
    ///
    /// # Safety
    /// `values` is `weights.len()` values of `out.len()`, and `at + 8 * N <= out.len()`.
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_columns<T: Element, const N: usize>(
        weights: &[f32],
        values: &[T],
        out: &mut [f32],
        at: usize,
    ) {
        let width = out.len();
        // SAFETY: inside `out` by the caller's promise.
        let mut sums: [__m256; N] =
            std::array::from_fn(|i| unsafe { _mm256_loadu_ps(out.as_ptr().add(at + 8 * i)) });
        for (row, weight) in weights.iter().enumerate() {
            let weight = _mm256_set1_ps(*weight);
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: inside value `row` by the caller's promise.
                let v = unsafe { T::load8(values.as_ptr().add(row * width + at + 8 * i)) };
                *sum = _mm256_fmadd_ps(weight, v, *sum);
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            // SAFETY: inside `out` by the caller's promise.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(at + 8 * i), *sum) };
        }
    }

    /// # Safety
    /// The CPU has the instructions; `values` is `weights.len()` values of the output's width.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn add_weighted<T: Element>(weights: &[f32], values: &[T], out: &mut [f32]) {
        let width = out.len();
        let mut at = 0;
        while at + 64 <= width {
            // SAFETY: the columns are inside `out`.
            unsafe { add_columns::<T, 8>(weights, values, out, at) };
            at += 64;
        }
        while at + 8 <= width {
            // SAFETY: the columns are inside `out`.
            unsafe { add_columns::<T, 1>(weights, values, out, at) };
            at += 8;
        }
        for (row, weight) in weights.iter().enumerate() {
            for column in at..width {
                out[column] = weight.mul_add(values[row * width + column].to_f32(), out[column]);
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

    /// Every width and run length against plain sums in f64.
    #[test]
    fn runs_of_any_length_and_width_equal_plain_sums() {
        for width in [1, 7, 8, 24, 64, 80, 130] {
            for n in [0, 1, 3, 4, 5, 16] {
                let (query, rows) = (values(width, 1.0), values(n * width, 2.0));
                let halves: Vec<f16> = rows.iter().map(|v| f16::from_f32(*v)).collect();
                check(&query, &rows);
                check(&query, &halves);
            }
        }
    }

    fn check<T: Element>(query: &[f32], rows: &[T]) {
        let (width, n) = (query.len(), rows.len() / query.len());
        let at = |row: usize, column: usize| f64::from(rows[row * width + column].to_f32());
        let mut got = vec![0.0; n];
        scores(query, rows, 0.5, &mut got);
        for (row, got) in got.iter().enumerate() {
            let want: f64 =
                query.iter().enumerate().map(|(i, q)| 0.5 * f64::from(*q) * at(row, i)).sum();
            assert!((f64::from(*got) - want).abs() < 1e-5, "{width} x {n}: {got} {want}");
        }
        let (weights, mut out) = (values(n, 3.0), query.to_vec());
        add_weighted(&weights, rows, &mut out);
        for (column, got) in out.iter().enumerate() {
            let sum: f64 =
                weights.iter().enumerate().map(|(i, w)| f64::from(*w) * at(i, column)).sum();
            let want = f64::from(query[column]) + sum;
            assert!((f64::from(*got) - want).abs() < 1e-5, "{width} x {n}: {got} {want}");
        }
    }
}
