//! Products of queries with a page of keys, and weighted sums of runs of values,
//! for a few query rows at once.
//!
//! Keys of a page lie `[key width][positions]`, values `[positions][value width]`
//! (see [`crate::kv`]), so that a register holds neighbours of either. Each product
//! is summed over the key's width in order, each output over positions in order:
//! results depend neither on the rows beside a row nor on how positions fall into runs. Every
//! product is fused with its sum, so on x86-64 and ARM they do not depend on the level either.

use realm_quant::{Element, FloatJob, FloatSimd, Level};

/// The most query rows that share what is loaded: with more registers there is room for the sums
/// of more rows.
pub(super) fn most_rows(level: Level) -> usize {
    level.run(MostRows)
}

/// Most rows at any level.
const MAX_ROWS: usize = 8;

/// [`most_rows`] of vectors of one kind.
const fn rows_of<S: FloatSimd>() -> usize {
    if S::LANES == 16 { MAX_ROWS } else { 6 }
}

struct MostRows;

impl FloatJob for MostRows {
    type Output = usize;

    #[inline(always)]
    fn run<S: FloatSimd>(self, _: S) -> usize {
        rows_of::<S>()
    }
}

/// `out[r][i] = queries[r] . keys[..][i]` for up to [`most_rows`] rows and every `i < stride`.
///
/// Rows of `queries` are `queries.len() / n_rows` apart, those of `out` `out_stride`;
/// `keys` is `[width][stride]`, and `stride` a multiple of [`crate::kv::LANES`]. On the way,
/// memory that is wanted next is fetched `ahead`.
///
/// # Panics
/// When lengths do not fit, or there are more rows.
pub(super) fn products<T: Element>(
    level: Level,
    n_rows: usize,
    queries: &[f32],
    keys: &[T],
    stride: usize,
    out: &mut [f32],
    out_stride: usize,
    ahead: &[u8],
) {
    let width = queries.len() / n_rows;
    assert!(queries.len() == n_rows * width && keys.len() == width * stride);
    assert!(stride.is_multiple_of(crate::kv::LANES));
    assert!(stride <= out_stride && (n_rows - 1) * out_stride + stride <= out.len());
    level.run(Products { n_rows, queries, width, keys, stride, out, out_stride, ahead });
}

/// `out[r] += sum over i of weights[r][i] * values[i]` for up to [`most_rows`] rows.
///
/// Rows of `weights` are `weight_stride` apart, of which the first `n` count; `values` is
/// `[n][stride]`, and `stride`, a multiple of [`crate::kv::LANES`], the width of `out`. On the
/// way, memory that is wanted next is fetched `ahead`.
///
/// # Panics
/// When lengths do not fit, or there are more rows.
pub(super) fn add_weighted<T: Element>(
    level: Level,
    n_rows: usize,
    weights: &[f32],
    weight_stride: usize,
    values: &[T],
    stride: usize,
    out: &mut [f32],
    ahead: &[u8],
) {
    let n = values.len() / stride;
    assert!(values.len() == n * stride && out.len() == n_rows * stride);
    assert!(stride.is_multiple_of(crate::kv::LANES));
    assert!((n_rows - 1) * weight_stride + n <= weights.len());
    level.run(AddWeighted { n_rows, weights, weight_stride, values, stride, n, out, ahead });
}

/// `out[i] = values[i]`, of which there are a multiple of [`crate::kv::LANES`].
///
/// # Panics
/// When lengths do not fit.
pub(super) fn unpack<T: Element>(level: Level, values: &[T], out: &mut [f32]) {
    assert!(values.len() == out.len() && out.len().is_multiple_of(crate::kv::LANES));
    level.run(Unpack { values, out });
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

/// Calls a method with `n_rows` as a constant, up to [`rows_of`] the vectors `S`. No code is made
/// for more.
macro_rules! with_rows {
    ($n_rows:expr, $S:ident, $R:ident => $body:expr) => {
        with_rows!(@ $n_rows, $S, $R, $body, 1 2 3 4 5 6 7 8)
    };
    (@ $n_rows:expr, $S:ident, $R:ident, $body:expr, $($n:literal)*) => {
        match $n_rows {
            $($n if const { $n <= rows_of::<$S>() } => { const $R: usize = $n; $body })*
            n => panic!("{n} rows, expected 1 to {}", rows_of::<$S>()),
        }
    };
}

/// Columns that are computed side by side, in vectors: two of AVX2 and as many bytes of others
/// keep the units busy, but sums that find no room in the registers do not.
const fn fits<S: FloatSimd>(vectors: usize, n_rows: usize) -> bool {
    vectors * n_rows <= S::SUMS
}

/// Goes through the columns of a stride by several vectors, then by what is left.
macro_rules! all_columns {
    ($S:ident, $R:ident, $AHEAD:ident, $stride:expr, $self:ident, $s:expr) => {{
        let mut at = 0;
        if const { $S::LANES == 4 && fits::<$S>(4, $R) } {
            while at + 4 * $S::LANES <= $stride {
                $self.columns::<$S, $R, 4, $AHEAD>($s, at);
                at += 4 * $S::LANES;
            }
        }
        if const { fits::<$S>(2, $R) } {
            while at + 2 * $S::LANES <= $stride {
                $self.columns::<$S, $R, 2, $AHEAD>($s, at);
                at += 2 * $S::LANES;
            }
        }
        while at < $stride {
            $self.columns::<$S, $R, 1, $AHEAD>($s, at);
            at += $S::LANES;
        }
    }};
}

/// `C` vectors.
#[inline(always)]
fn load<S: FloatSimd, T: Element, const C: usize>(s: S, values: &[T]) -> [S::F; C] {
    let bytes: &[u8] = bytemuck::cast_slice(&values[..C * S::LANES]);
    std::array::from_fn(|c| T::load(s, &bytes[c * S::LANES * size_of::<T>()..]))
}

struct Unpack<'a, T> {
    values: &'a [T],
    out: &'a mut [f32],
}

impl<T: Element> FloatJob for Unpack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: FloatSimd>(self, s: S) {
        let values = self.values.chunks_exact(S::LANES);
        for (values, out) in values.zip(self.out.chunks_exact_mut(S::LANES)) {
            let [values] = load(s, values);
            s.store_f32(values, out);
        }
    }
}

struct Products<'a, T> {
    n_rows: usize,
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
    #[inline(always)]
    fn columns<S: FloatSimd, const R: usize, const C: usize, const AHEAD: bool>(
        &mut self,
        s: S,
        at: usize,
    ) {
        let Self { width, stride, out_stride, ahead, .. } = *self;
        let queries: [&[f32]; R] = std::array::from_fn(|r| &self.queries[r * width..][..width]);
        let mut rows = self.keys.chunks_exact(stride);
        let mut sums = [[s.splat_f32(0.0); C]; R];
        for i in 0..width {
            if AHEAD {
                fetch::<T>(ahead, at * width + i * C * S::LANES, C * S::LANES);
            }
            let Some(row) = rows.next() else { break };
            let keys: [S::F; C] = load(s, &row[at..]);
            for r in 0..R {
                let q = s.splat_f32(queries[r][i]);
                for c in 0..C {
                    sums[r][c] = s.fma_f32(q, keys[c], sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[r * out_stride + at..][..C * S::LANES];
            for (sum, out) in sums.into_iter().zip(out.chunks_exact_mut(S::LANES)) {
                s.store_f32(sum, out);
            }
        }
    }

    #[inline(always)]
    fn all_columns<S: FloatSimd, const R: usize, const AHEAD: bool>(&mut self, s: S) {
        all_columns!(S, R, AHEAD, self.stride, self, s);
    }
}

impl<T: Element> FloatJob for Products<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: FloatSimd>(mut self, s: S) {
        with_rows!(self.n_rows, S, R => match self.ahead {
            [] => self.all_columns::<S, R, false>(s),
            _ => self.all_columns::<S, R, true>(s),
        });
    }
}

struct AddWeighted<'a, T> {
    n_rows: usize,
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
    #[inline(always)]
    fn columns<S: FloatSimd, const R: usize, const C: usize, const AHEAD: bool>(
        &mut self,
        s: S,
        at: usize,
    ) {
        let Self { weight_stride, stride, n, ahead, .. } = *self;
        let weights: [&[f32]; R] = std::array::from_fn(|r| &self.weights[r * weight_stride..][..n]);
        let mut sums: [[S::F; C]; R] =
            std::array::from_fn(|r| load(s, &self.out[r * stride + at..]));
        let mut rows = self.values.chunks_exact(stride);
        for i in 0..n {
            if AHEAD {
                fetch::<T>(ahead, at * n + i * C * S::LANES, C * S::LANES);
            }
            let Some(row) = rows.next() else { break };
            let values: [S::F; C] = load(s, &row[at..]);
            for r in 0..R {
                let w = s.splat_f32(weights[r][i]);
                for c in 0..C {
                    sums[r][c] = s.fma_f32(w, values[c], sums[r][c]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[r * stride + at..][..C * S::LANES];
            for (sum, out) in sums.into_iter().zip(out.chunks_exact_mut(S::LANES)) {
                s.store_f32(sum, out);
            }
        }
    }

    #[inline(always)]
    fn all_columns<S: FloatSimd, const R: usize, const AHEAD: bool>(&mut self, s: S) {
        all_columns!(S, R, AHEAD, self.stride, self, s);
    }
}

impl<T: Element> FloatJob for AddWeighted<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: FloatSimd>(mut self, s: S) {
        with_rows!(self.n_rows, S, R => match self.ahead {
            [] => self.all_columns::<S, R, false>(s),
            _ => self.all_columns::<S, R, true>(s),
        });
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn values(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + seed) * 0.731).sin()).collect()
    }

    fn near(got: f32, want: f64) -> bool {
        (f64::from(got) - want).abs() < 1e-5
    }

    fn value<T: Element>(value: &T) -> f64 {
        f64::from(T::read(bytemuck::bytes_of(value)))
    }

    /// Any number of rows, width and number of positions against sums in f64.
    #[test]
    fn blocks_of_any_shape_equal_plain_sums_at_every_level() {
        for level in Level::available() {
            for n_rows in 1..=most_rows(level) {
                for stride in [16, 32, 48, 80] {
                    for n in [1, 7, 24, 64] {
                        let rows = values(n * stride, 2.0);
                        let halves: Vec<f16> = rows.iter().map(|v| f16::from_f32(*v)).collect();
                        check_products(level, n_rows, stride, &rows);
                        check_products(level, n_rows, stride, &halves);
                        check_sums(level, n_rows, stride, &rows);
                        check_sums(level, n_rows, stride, &halves);
                    }
                }
            }
        }
    }

    #[test]
    fn unpacked_values_are_the_same_values_at_every_level() {
        let halves: Vec<f16> = values(80, 5.0).into_iter().map(f16::from_f32).collect();
        for level in Level::available() {
            let mut unpacked = vec![0.0; halves.len()];
            unpack(level, &halves, &mut unpacked);
            assert!(unpacked.iter().zip(&halves).all(|(value, half)| *value == half.to_f32()));
        }
    }

    #[test]
    #[should_panic(expected = "9 rows")]
    fn more_rows_than_there_are_registers_for_are_refused() {
        let rows = values(16, 1.0);
        products(Level::best(), 9, &values(9, 1.0), &rows, 16, &mut vec![0.0; 9 * 16], 16, &[]);
    }

    fn check_products<T: Element>(level: Level, n_rows: usize, stride: usize, keys: &[T]) {
        let (width, out_stride) = (keys.len() / stride, stride + 3);
        let queries = values(n_rows * width, 1.0);
        let mut out = vec![0.0; n_rows * out_stride];
        let ahead = &bytemuck::cast_slice(keys)[..size_of_val(keys) / 2];
        products(level, n_rows, &queries, keys, stride, &mut out, out_stride, ahead);
        for (row, query) in queries.chunks_exact(width).enumerate() {
            for column in 0..stride {
                let key = keys[column..].iter().step_by(stride);
                let want: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * value(k)).sum();
                assert!(near(out[row * out_stride + column], want), "{level} {row} {column}");
            }
        }
    }

    fn check_sums<T: Element>(level: Level, n_rows: usize, stride: usize, rows: &[T]) {
        let n = rows.len() / stride;
        let weight_stride = n + 2;
        let weights = values(n_rows * weight_stride, 3.0);
        let before = values(n_rows * stride, 4.0);
        let mut out = before.clone();
        let ahead = &bytemuck::cast_slice(rows)[..size_of_val(rows) / 2];
        add_weighted(level, n_rows, &weights, weight_stride, rows, stride, &mut out, ahead);
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let weight = |at: usize| f64::from(weights[row * weight_stride + at]);
            let sum: f64 = (0..n).map(|at| weight(at) * value(&rows[at * stride + column])).sum();
            assert!(near(*got, f64::from(before[i]) + sum), "{level} {row} {column}");
        }
    }
}
