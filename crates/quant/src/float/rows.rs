//! Float weights by vectors along the row.
//!
//! A row and a token have one vector of sums, or half of one that two rows share. It runs over
//! the whole vectors of the row in order, then its lanes are added, then the values left over:
//! the same lanes whatever the instruction set. Tiles of several rows and tokens only share
//! loads. With many tokens, as many as fit in the second-level cache meet all rows before
//! others do, some columns at a time, so that those of the rows stay in the first-level cache.

use std::marker::PhantomData;
use std::ops::Range;

use super::Element;
use crate::kernel::{Kernel, Problem};
use crate::rows::with_tokens;
use crate::simd::{FloatSimd, Job, prefetch};

/// Vectors of rows in a tile.
const TILE_VECTORS: usize = 4;
/// Columns that all tokens of a block pass before the next ones.
const PANEL_COLS: usize = 512;
/// Activations of a block of tokens.
const BLOCK_BYTES: usize = 512 << 10;

/// The kernel for the instruction set `S`.
pub(super) const fn kernel<S: FloatSimd, E: Element>() -> Kernel {
    Kernel::new(S::SET, E::TY, matmul::<S, E>)
}

/// The multiplication for the instruction set `S`.
///
/// # Panics
///
/// When the CPU lacks it.
fn matmul<S: FloatSimd, E: Element>(problem: Problem<'_>) {
    let s = S::new().expect("kernels are chosen by what the CPU has");
    s.run(Matmul::<E> { problem, element: PhantomData });
}

struct Matmul<'a, E> {
    problem: Problem<'a>,
    element: PhantomData<E>,
}

impl<S: FloatSimd, E: Element> Job<S> for Matmul<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let mut problem = self.problem;
        let (tokens, cols) = (problem.x.rows(), problem.cols);
        let whole = cols / row_lanes::<S>() * row_lanes::<S>();
        let panel_cols = if tokens > tile_tokens::<S, E>() { PANEL_COLS } else { whole.max(1) };
        let block_tokens = (BLOCK_BYTES / (cols * size_of::<f32>()))
            .next_multiple_of(tile_tokens::<S, E>())
            .clamp(tile_tokens::<S, E>(), tokens.next_multiple_of(tile_tokens::<S, E>()));
        let mut sums = vec![[s.splat_f32(0.0); TILE_VECTORS]; block_tokens];
        for begin in (0..tokens).step_by(block_tokens) {
            let sums = &mut sums[..block_tokens.min(tokens - begin)];
            for first in (0..problem.n_rows).step_by(TILE_VECTORS * S::ROWS) {
                sums.fill([s.splat_f32(0.0); TILE_VECTORS]);
                for col in (0..whole).step_by(panel_cols) {
                    let cols = col..whole.min(col + panel_cols);
                    for (i, sums) in sums.chunks_mut(tile_tokens::<S, E>()).enumerate() {
                        let token = begin + i * tile_tokens::<S, E>();
                        let (problem, cols, is_first) = (&problem, cols.clone(), i == 0);
                        with_tokens!(sums.len(), tile_tokens::<S, E>(), T => s.run(Tile::<S, E, T> {
                            problem, first, token, cols, sums, is_first, element: PhantomData,
                        }));
                    }
                }
                for (t, sums) in sums.iter().enumerate() {
                    finish::<S, E>(s, &mut problem, first, begin + t, sums);
                }
            }
        }
    }
}

/// Columns of a row in one vector.
const fn row_lanes<S: FloatSimd>() -> usize {
    S::LANES / S::ROWS
}

/// Vectors along a row that are loaded together: the halves of a cache line, where two rows
/// share a vector. Rows whose distance is a power of two push each other's lines out of the
/// first-level cache before a second half is read.
const fn row_steps<S: FloatSimd, E: Element>() -> usize {
    if S::ROWS * E::BYTES == 8 { 2 } else { 1 }
}

/// Tokens of a tile: as many as have registers for their sums beside the values of the rows, of
/// which two steps take twice as many.
const fn tile_tokens<S: FloatSimd, E: Element>() -> usize {
    if row_steps::<S, E>() == 2 { 5 } else { S::FLOAT_TILE_TOKENS }
}

/// Up to [`TILE_VECTORS`] vectors of rows with `T` tokens, some of the columns.
struct Tile<'a, S: FloatSimd, E, const T: usize> {
    problem: &'a Problem<'a>,
    first: usize,
    token: usize,
    /// Whole vectors.
    cols: Range<usize>,
    /// `[token][vector of rows]`
    sums: &'a mut [[S::F; TILE_VECTORS]],
    /// Whether no other tokens have met these rows.
    is_first: bool,
    element: PhantomData<E>,
}

impl<S: FloatSimd, E: Element, const T: usize> Job<S> for Tile<'_, S, E, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Self { problem, first, token, cols, .. } = self;
        // Slices of one length, known as such, so that one check serves for all of them: made by
        // loops, as closures that may panic are calls.
        let n_cols = cols.len();
        let mut w: [[&[u8]; 2]; TILE_VECTORS] = [[&[]; 2]; TILE_VECTORS];
        for (v, rows) in w.iter_mut().enumerate() {
            for (r, to) in rows.iter_mut().enumerate() {
                // Where a row has a vector of its own, its second row is not looked at.
                let row = row(problem, first + v * S::ROWS + r % S::ROWS);
                *to = &row[cols.start * E::BYTES..][..n_cols * E::BYTES];
            }
        }
        let values = problem.x.values();
        let mut x: [&[f32]; T] = [&[]; T];
        for (t, to) in x.iter_mut().enumerate() {
            *to = &values[(token + t) * problem.cols + cols.start..][..n_cols];
        }
        // The first tile of these rows prefetches the next ones.
        let rows = TILE_VECTORS * S::ROWS;
        let next = problem.weights.get((first + rows) * problem.row_bytes..);
        let next = next.filter(|_| self.is_first).unwrap_or_default();
        let all: &mut [_; T] = self.sums.try_into().expect("a tile has T tokens");
        let mut sums = *all;
        let step_cols = row_steps::<S, E>() * row_lanes::<S>();
        let mut k = 0;
        while k + step_cols <= n_cols {
            let read = rows * E::BYTES;
            prefetch(s, next, (cols.start + k) * read, step_cols * read);
            step::<S, E, T>(s, &w, &x, k, row_steps::<S, E>(), &mut sums);
            k += step_cols;
        }
        if k < n_cols {
            step::<S, E, T>(s, &w, &x, k, 1, &mut sums);
        }
        *all = sums;
    }
}

/// The products of `n_steps` vectors along the rows, at most two.
#[inline(always)]
fn step<S: FloatSimd, E: Element, const T: usize>(
    s: S,
    w: &[[&[u8]; 2]; TILE_VECTORS],
    x: &[&[f32]; T],
    k: usize,
    n_steps: usize,
    sums: &mut [[S::F; TILE_VECTORS]; T],
) {
    let mut values = [[s.splat_f32(0.0); TILE_VECTORS]; 2];
    for v in 0..TILE_VECTORS {
        let [first, second] = w[v];
        for (step, values) in values.iter_mut().take(n_steps).enumerate() {
            let at = (k + step * row_lanes::<S>()) * E::BYTES;
            values[v] = E::load_rows(s, [&first[at..], &second[at..]]);
        }
    }
    for t in 0..T {
        for (step, values) in values.iter().take(n_steps).enumerate() {
            let x = s.repeat_f32(bytemuck::cast_slice(&x[t][k + step * row_lanes::<S>()..]));
            for v in 0..TILE_VECTORS {
                sums[t][v] = s.fma_f32(values[v], x, sums[t][v]);
            }
        }
    }
}

/// Writes the results of one token and the rows from `first` on, as far as there are any.
#[inline(always)]
fn finish<S: FloatSimd, E: Element>(
    s: S,
    problem: &mut Problem<'_>,
    first: usize,
    token: usize,
    sums: &[S::F; TILE_VECTORS],
) {
    let cols = problem.cols;
    let whole = cols / row_lanes::<S>() * row_lanes::<S>();
    let x = &problem.x.values()[token * cols..][..cols];
    let sums = sums.iter().flat_map(|sum| s.sum_rows(*sum).into_iter().take(S::ROWS));
    for (r, sum) in (first..problem.n_rows).zip(sums) {
        let w = row(problem, r);
        let rest = (whole..cols).map(|k| E::read(&w[k * E::BYTES..]) * x[k]);
        problem.out.token(token)[r] = sum + rest.sum::<f32>();
    }
}

/// The bytes of a row; those beyond the last are the last one again.
#[inline(always)]
fn row<'a>(problem: &Problem<'a>, row: usize) -> &'a [u8] {
    let bytes = problem.row_bytes;
    &problem.weights[row.min(problem.n_rows - 1) * bytes..][..bytes]
}
