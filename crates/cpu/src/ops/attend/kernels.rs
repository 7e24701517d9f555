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

/// Runs `$body` with `$R` a constant equal to `$n_rows`, which is 1 to [`rows_of`] the vectors
/// `$S`. No code is made for more.
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

/// Whether the sums of so many vectors of columns stay in registers.
const fn fits<S: FloatSimd>(vectors: usize, n_rows: usize) -> bool {
    vectors * n_rows <= S::SUMS
}

/// Goes through the columns of a stride by two vectors at once, or four short ones, so that there
/// are sums enough to keep the CPU busy; then by one.
macro_rules! all_columns {
    ($S:ident, $R:ident, $AHEAD:ident, $self:ident, $s:ident, $n:ident) => {{
        let mut at = 0;
        if const { $S::LANES == 4 && fits::<$S>(4, $R) } {
            while at + 4 * $S::LANES <= $self.stride {
                $self.columns::<$S, $R, 4, $AHEAD>($s, at, $n);
                at += 4 * $S::LANES;
            }
        }
        if const { fits::<$S>(2, $R) } {
            while at + 2 * $S::LANES <= $self.stride {
                $self.columns::<$S, $R, 2, $AHEAD>($s, at, $n);
                at += 2 * $S::LANES;
            }
        }
        while at < $self.stride {
            $self.columns::<$S, $R, 1, $AHEAD>($s, at, $n);
            at += $S::LANES;
        }
    }};
}

/// `C` vectors. By a loop, as closures that may panic are calls.
#[inline(always)]
fn load<S: FloatSimd, T: Element, const C: usize>(s: S, values: &[T]) -> [S::F; C] {
    let bytes: &[u8] = bytemuck::cast_slice(&values[..C * S::LANES]);
    let mut vectors = [s.splat_f32(0.0); C];
    for (c, vector) in vectors.iter_mut().enumerate() {
        *vector = T::load(s, &bytes[c * S::LANES * size_of::<T>()..]);
    }
    vectors
}

/// The first `len` of the values from each multiple of `stride` on: slices of one length, known as
/// such, so that one check serves for all of them.
#[inline(always)]
fn rows_of_length<const R: usize>(values: &[f32], stride: usize, len: usize) -> [&[f32]; R] {
    let mut rows: [&[f32]; R] = [&[]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &values[r * stride..][..len];
    }
    rows
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

/// `out[r][i] = queries[r] . keys[..][i]` for up to [`most_rows`] rows and every `i < stride`.
pub(super) struct Products<'a, T> {
    pub n_rows: usize,
    /// `[rows][key width]`
    pub queries: &'a [f32],
    /// `[key width][stride]`
    pub keys: &'a [T],
    /// A multiple of [`crate::kv::LANES`].
    pub stride: usize,
    /// Rows `out_stride` apart, of which the first `stride` values are written.
    pub out: &'a mut [f32],
    pub out_stride: usize,
    /// What is wanted next: it is fetched on the way.
    pub ahead: &'a [u8],
}

impl<T: Element> Products<'_, T> {
    /// # Panics
    /// When lengths do not fit, or there are more rows.
    pub fn compute(self, level: Level) {
        let Self { n_rows, stride, out_stride, .. } = self;
        assert!(self.queries.len() * stride == n_rows * self.keys.len());
        assert!(stride.is_multiple_of(crate::kv::LANES));
        assert!(stride <= out_stride && (n_rows - 1) * out_stride + stride <= self.out.len());
        level.run(self);
    }

    /// Columns from `at` on, `C` vectors of them.
    #[inline(always)]
    fn columns<S: FloatSimd, const R: usize, const C: usize, const AHEAD: bool>(
        &mut self,
        s: S,
        at: usize,
        width: usize,
    ) {
        let Self { stride, out_stride, ahead, .. } = *self;
        let queries: [_; R] = rows_of_length(self.queries, width, width);
        let mut sums = [[s.splat_f32(0.0); C]; R];
        for (i, row) in (0..width).zip(self.keys.chunks_exact(stride)) {
            if AHEAD {
                fetch::<T>(ahead, at * width + i * C * S::LANES, C * S::LANES);
            }
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
    fn all_columns<S: FloatSimd, const R: usize, const AHEAD: bool>(&mut self, s: S, width: usize) {
        all_columns!(S, R, AHEAD, self, s, width);
    }
}

impl<T: Element> FloatJob for Products<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: FloatSimd>(mut self, s: S) {
        let width = self.keys.len() / self.stride;
        with_rows!(self.n_rows, S, R => match self.ahead {
            [] => self.all_columns::<S, R, false>(s, width),
            _ => self.all_columns::<S, R, true>(s, width),
        });
    }
}

/// `out[r] += sum over i of weights[r][i] * values[i]` for up to [`most_rows`] rows.
pub(super) struct AddWeighted<'a, T> {
    pub n_rows: usize,
    /// Rows `weight_stride` apart, of which as many count as there are values.
    pub weights: &'a [f32],
    pub weight_stride: usize,
    /// `[values][stride]`
    pub values: &'a [T],
    /// A multiple of [`crate::kv::LANES`].
    pub stride: usize,
    /// `[rows][stride]`
    pub out: &'a mut [f32],
    /// What is wanted next: it is fetched on the way.
    pub ahead: &'a [u8],
}

impl<T: Element> AddWeighted<'_, T> {
    /// # Panics
    /// When lengths do not fit, or there are more rows.
    pub fn compute(self, level: Level) {
        let Self { n_rows, stride, .. } = self;
        assert!(self.values.len().is_multiple_of(stride) && self.out.len() == n_rows * stride);
        assert!(stride.is_multiple_of(crate::kv::LANES));
        let n = self.values.len() / stride;
        assert!((n_rows - 1) * self.weight_stride + n <= self.weights.len());
        level.run(self);
    }

    /// Columns from `at` on, `C` vectors of them.
    #[inline(always)]
    fn columns<S: FloatSimd, const R: usize, const C: usize, const AHEAD: bool>(
        &mut self,
        s: S,
        at: usize,
        n: usize,
    ) {
        let Self { weight_stride, stride, ahead, .. } = *self;
        let weights: [_; R] = rows_of_length(self.weights, weight_stride, n);
        let mut sums = [[s.splat_f32(0.0); C]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            *sums = load(s, &self.out[r * stride + at..]);
        }
        for (i, row) in (0..n).zip(self.values.chunks_exact(stride)) {
            if AHEAD {
                fetch::<T>(ahead, at * n + i * C * S::LANES, C * S::LANES);
            }
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
    fn all_columns<S: FloatSimd, const R: usize, const AHEAD: bool>(&mut self, s: S, n: usize) {
        all_columns!(S, R, AHEAD, self, s, n);
    }
}

impl<T: Element> FloatJob for AddWeighted<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: FloatSimd>(mut self, s: S) {
        let n = self.values.len() / self.stride;
        with_rows!(self.n_rows, S, R => match self.ahead {
            [] => self.all_columns::<S, R, false>(s, n),
            _ => self.all_columns::<S, R, true>(s, n),
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
        let (n_rows, stride, out_stride) = (9, 16, 16);
        let (queries, out) = (&values(9, 1.0)[..], &mut vec![0.0; 9 * 16][..]);
        Products { n_rows, queries, keys: &rows[..], stride, out, out_stride, ahead: &[] }
            .compute(Level::best());
    }

    fn check_products<T: Element>(level: Level, n_rows: usize, stride: usize, keys: &[T]) {
        let (width, out_stride) = (keys.len() / stride, stride + 3);
        let queries = values(n_rows * width, 1.0);
        let mut out = vec![0.0; n_rows * out_stride];
        let ahead = &bytemuck::cast_slice(keys)[..size_of_val(keys) / 2];
        let (queries, all) = (&queries[..], &mut out[..]);
        Products { n_rows, queries, keys, stride, out: all, out_stride, ahead }.compute(level);
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
        let (weights, all) = (&weights[..], &mut out[..]);
        AddWeighted { n_rows, weights, weight_stride, values: rows, stride, out: all, ahead }
            .compute(level);
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let weight = |at: usize| f64::from(weights[row * weight_stride + at]);
            let sum: f64 = (0..n).map(|at| weight(at) * value(&rows[at * stride + column])).sum();
            assert!(near(*got, f64::from(before[i]) + sum), "{level} {row} {column}");
        }
    }
}
