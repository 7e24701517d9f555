//! Blocks of 32 values with many tokens on WebAssembly, which multiplies 16-bit numbers only.
//!
//! Weights are widened once for all tokens, activations once for all rows, so that the
//! innermost loop has nothing but products of pairs and sums. A tile of eight rows and four
//! tokens leaves registers free for what it reads: engines have sixteen at most.

use core::arch::wasm32::*;
use std::marker::PhantomData;

use super::LEN;
use super::rows::{RowBlocks, Rows32};
use crate::ActivationView;
use crate::kernel::Problem;
use crate::rows::with_tokens;
use crate::simd::{Job, LaneRows, Simd, prefetch};

/// Rows of a tile, in two vectors.
const LANES: usize = 8;
/// Tokens of a tile.
const TILE_TOKENS: usize = 4;
/// Columns that are unpacked at once: eight rows of them stay in the first-level cache.
const PANEL_COLS: usize = 512;
const PANEL_BLOCKS: usize = PANEL_COLS / LEN;

/// Widened activations of one token. Those of the tokens of a tile follow one another, at
/// distances that are constants.
type Run = [i16; PANEL_COLS];

/// The same block of eight rows.
#[derive(Clone, Copy)]
struct WideBlock {
    /// Values 2k and 2k+1 of each row, the offset subtracted.
    pairs: [[v128; 2]; LEN / 2],
    /// Scales.
    d: [v128; 2],
}

impl WideBlock {
    const ZERO: Self = {
        let zero = i32x4(0, 0, 0, 0);
        Self { pairs: [[zero; 2]; LEN / 2], d: [zero; 2] }
    };

    #[inline(always)]
    fn new<S: Simd>(s: S, block: &RowBlocks<S>, offset: u8) -> Self {
        let offset = i16x8_splat(i16::from(offset));
        let mut wide = Self::ZERO;
        for (u, pairs) in block.u.iter().zip(wide.pairs.as_chunks_mut::<2>().0) {
            let mut bytes = [0; 4 * LANES];
            s.store_bytes(*u, &mut bytes);
            for half in 0..2 {
                let four_rows = load(&bytes[16 * half..]);
                let low = i16x8_sub(u16x8_extend_low_u8x16(four_rows), offset);
                let high = i16x8_sub(u16x8_extend_high_u8x16(four_rows), offset);
                pairs[0][half] = i32x4_shuffle::<0, 2, 4, 6>(low, high);
                pairs[1][half] = i32x4_shuffle::<1, 3, 5, 7>(low, high);
            }
        }
        let mut d = [0.0; LANES];
        s.store_f32(block.d, &mut d);
        wide.d = load_eight(&d);
        wide
    }
}

/// All rows with any number of tokens, for a format without minimums.
pub(super) struct Widened<'a, F> {
    pub problem: Problem<'a>,
    pub format: PhantomData<F>,
}

impl<S: Simd, F: Rows32> Job<S> for Widened<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        const { assert!(S::LANES == LANES && !S::SIGNED && !F::HAS_MIN) };
        let mut problem = self.problem;
        let n_blocks = problem.cols / LEN;
        let tokens = problem.x.rows();
        // As many tiles as are needed, of about the same size.
        let tile_tokens = tokens.div_ceil(tokens.div_ceil(TILE_TOKENS));
        let runs = widen(&problem.x);
        let mut panel = [WideBlock::ZERO; PANEL_BLOCKS];
        let mut sums = vec![[0.0; LANES]; tokens];
        prefetch(s, problem.weights, 0, LANES * problem.row_bytes);
        for first in (0..problem.n_rows).step_by(LANES) {
            let rows = LaneRows::new::<S>(problem.weights, problem.row_bytes, first, first + LANES);
            sums.fill([0.0; LANES]);
            for (runs, begin) in runs.chunks(tokens).zip((0..n_blocks).step_by(PANEL_BLOCKS)) {
                let blocks = begin..n_blocks.min(begin + PANEL_BLOCKS);
                let panel = &mut panel[..blocks.len()];
                for (b, block) in blocks.zip(&mut *panel) {
                    let at = b / F::PARTS * problem.block_bytes;
                    let unpacked = F::unpack_rows(s, &rows, at, b % F::PARTS);
                    *block = WideBlock::new(s, &unpacked, F::OFFSET);
                }
                let tiles = sums.chunks_mut(tile_tokens).zip(runs.chunks(tile_tokens));
                for (i, (sums, runs)) in tiles.enumerate() {
                    let scales = &problem.x.scales()[i * tile_tokens * n_blocks + begin..];
                    with_tokens!(sums.len(), TILE_TOKENS, T => {
                        tile::<T>(panel, runs, (scales, n_blocks), sums);
                    });
                }
            }
            for (t, sums) in sums.iter().enumerate() {
                let out = &mut problem.out.token(t)[first..];
                let len = out.len().min(LANES);
                out[..len].copy_from_slice(&sums[..len]);
            }
        }
    }
}

/// All activations: of each run of columns those of every token.
fn widen(x: &ActivationView<'_>) -> Vec<Run> {
    let mut runs = Vec::with_capacity(x.cols().div_ceil(PANEL_COLS) * x.rows());
    for begin in (0..x.cols()).step_by(PANEL_COLS) {
        for row in x.quants().chunks_exact(x.cols()) {
            let quants = &row[begin..row.len().min(begin + PANEL_COLS)];
            let mut run = [0; PANEL_COLS];
            for (quants, wide) in quants.as_chunks::<8>().0.iter().zip(run.as_chunks_mut::<8>().0) {
                // SAFETY: eight bytes can be read, and eight 16-bit numbers written.
                unsafe {
                    let quants = i16x8_load_extend_i8x8(quants.as_ptr());
                    v128_store(wide.as_mut_ptr().cast(), quants);
                }
            }
            runs.push(run);
        }
    }
    runs
}

/// Adds the products of a panel with `T` tokens. The scales of the tokens' blocks are
/// `stride` apart.
#[inline(never)] // a tile has its registers to itself
fn tile<const T: usize>(
    panel: &[WideBlock],
    runs: &[Run],
    (scales, stride): (&[f32], usize),
    sums: &mut [[f32; LANES]],
) {
    let runs: &[Run; T] = runs.try_into().expect("a tile has T tokens");
    let sums: &mut [[f32; LANES]; T] = sums.try_into().expect("a tile has T tokens");
    for (b, block) in panel.iter().enumerate() {
        let mut dots = [[i32x4_splat(0); 2]; T];
        // A pair per turn: of many, compilers would read all first, and spill what they read.
        for (k, w) in block.pairs.iter().enumerate() {
            for t in 0..T {
                let x: &[i16] = &runs[t][b * LEN + 2 * k..][..2];
                // SAFETY: two 16-bit numbers can be read.
                let x = unsafe { v128_load32_splat(x.as_ptr().cast()) };
                for half in 0..2 {
                    let products = i32x4_dot_i16x8(w[half], x);
                    dots[t][half] = i32x4_add(dots[t][half], products);
                }
            }
        }
        for t in 0..T {
            let d_x = f32x4_splat(scales[t * stride + b]);
            let sum = load_eight(&sums[t]);
            for half in 0..2 {
                let d = f32x4_mul(block.d[half], d_x);
                let term = f32x4_mul(f32x4_convert_i32x4(dots[t][half]), d);
                let sum = f32x4_add(sum[half], term);
                // SAFETY: four of eight numbers can be written.
                unsafe { v128_store(sums[t][4 * half..][..4].as_mut_ptr().cast(), sum) };
            }
        }
    }
}

#[inline(always)]
fn load(bytes: &[u8]) -> v128 {
    // SAFETY: 16 bytes can be read.
    unsafe { v128_load(bytes[..16].as_ptr().cast()) }
}

#[inline(always)]
fn load_eight(values: &[f32; LANES]) -> [v128; 2] {
    let bytes = bytemuck::cast_slice(values);
    [load(bytes), load(&bytes[16..])]
}
