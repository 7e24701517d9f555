//! Float weights by vectors along the row.
//!
//! A row and a token have one vector of sums. It runs over the whole vectors of
//! the row in order, then its lanes are added, then the values left over. Tiles
//! of several rows and tokens only share loads.

use std::marker::PhantomData;

use super::Element;
use crate::kernel::{Kernel, Problem};
use crate::rows::with_tokens;
use crate::simd::{Job, Simd, prefetch};

/// Rows in a tile.
const TILE_ROWS: usize = 4;
/// Most tokens in a tile.
const TILE_TOKENS: usize = 4;

/// The kernel for the instruction set `S`.
pub(super) const fn kernel<S: Simd, E: Element>() -> Kernel {
    Kernel::new(S::LEVEL, E::TY, matmul::<S, E>)
}

/// The multiplication for the instruction set `S`.
///
/// # Safety
///
/// The CPU has the instructions of `S`.
unsafe fn matmul<S: Simd, E: Element>(problem: Problem<'_>) {
    // SAFETY: the caller's promise.
    let s = unsafe { S::new() };
    s.run(Matmul::<E> { problem, element: PhantomData });
}

struct Matmul<'a, E> {
    problem: Problem<'a>,
    element: PhantomData<E>,
}

impl<S: Simd, E: Element> Job<S> for Matmul<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let mut problem = self.problem;
        let tokens = problem.x.rows();
        for first in (0..problem.n_rows).step_by(TILE_ROWS) {
            for token in (0..tokens).step_by(TILE_TOKENS) {
                let problem = &mut problem;
                with_tokens!((tokens - token).min(TILE_TOKENS), TILE_TOKENS, T => {
                    s.run(Tile::<E, T> { problem, first, token, element: PhantomData });
                });
            }
        }
    }
}

/// Up to [`TILE_ROWS`] rows with `T` tokens.
struct Tile<'p, 'a, E, const T: usize> {
    problem: &'p mut Problem<'a>,
    first: usize,
    token: usize,
    element: PhantomData<E>,
}

impl<S: Simd, E: Element, const T: usize> Job<S> for Tile<'_, '_, E, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Self { problem, first, token, .. } = self;
        let (cols, row_bytes, last) = (problem.cols, problem.row_bytes, problem.n_rows - 1);
        // Rows beyond the last are the last one again, and are not written.
        let w: [&[u8]; TILE_ROWS] = std::array::from_fn(|r| {
            &problem.weights[(first + r).min(last) * row_bytes..][..row_bytes]
        });
        let values = problem.x.values();
        let x: [&[f32]; T] = std::array::from_fn(|t| &values[(token + t) * cols..][..cols]);
        // The first tile of these rows prefetches the next ones.
        let next = (first + TILE_ROWS) * row_bytes;
        let next = problem.weights.get(next..).filter(|_| token == 0).unwrap_or_default();
        let sums = dots::<S, E, T>(s, w, x, next);
        for (t, sums) in sums.iter().enumerate() {
            let out = &mut problem.out.token(token + t)[first..];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum);
        }
    }
}

/// The products of every row and token, `[token][row]`; prefetches from `next`
/// as many bytes as it reads.
#[inline(always)]
fn dots<S: Simd, E: Element, const T: usize>(
    s: S,
    w: [&[u8]; TILE_ROWS],
    x: [&[f32]; T],
    next: &[u8],
) -> [[f32; TILE_ROWS]; T] {
    let cols = x[0].len();
    let whole = cols / S::LANES * S::LANES;
    let mut sums = [[s.splat_f32(0.0); TILE_ROWS]; T];
    for k in (0..whole).step_by(S::LANES) {
        let read = TILE_ROWS * E::BYTES;
        prefetch(s, next, k * read, S::LANES * read);
        let mut values = [s.splat_f32(0.0); TILE_ROWS];
        for r in 0..TILE_ROWS {
            values[r] = E::load(s, &w[r][k * E::BYTES..]);
        }
        for t in 0..T {
            let x = s.load_f32(bytemuck::cast_slice(&x[t][k..]));
            for r in 0..TILE_ROWS {
                sums[t][r] = s.fma_f32(values[r], x, sums[t][r]);
            }
        }
    }
    let mut out = [[0.0; TILE_ROWS]; T];
    for t in 0..T {
        for (r, row) in w.iter().enumerate() {
            let rest = (whole..cols).map(|k| E::read(&row[k * E::BYTES..]) * x[t][k]);
            out[t][r] = s.sum_f32(sums[t][r]) + rest.sum::<f32>();
        }
    }
    out
}
