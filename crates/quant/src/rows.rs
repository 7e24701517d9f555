//! How the quantised formats use vectors: one weight row per lane.
//!
//! Rows are unpacked block by block, so that four consecutive values of a row
//! lie in one lane and meet four activations broadcast to all lanes. No sum
//! crosses lanes: each lane does what the scalar definition does, in its order,
//! whichever rows and tokens are worked on beside it.
//!
//! With few tokens each block goes straight into the sums ([`Direct`]); a format
//! may have a way of its own to do that. With more, 256 columns of some rows are unpacked into a panel that stays in the
//! first-level cache while all tokens pass over it in tiles ([`Panels`]).

use std::marker::PhantomData;
use std::ops::Range;

use realm_gguf::TensorType;

use crate::kernel::{Kernel, Problem};
use crate::packing::{Order, Packing};
use crate::simd::{Job, LaneRows, MAX_LANES, Simd, prefetch};
use crate::{ActivationView, cpu};

/// Rows of which every token has its turn before the next ones are read.
const TURN_ROWS: usize = 64;

/// Columns that a panel holds.
const PANEL_COLS: usize = 512;
/// Most blocks in a panel.
const MAX_PANEL_BLOCKS: usize = PANEL_COLS / 32;
/// Most vectors of rows in a tile.
const MAX_TILE_VECTORS: usize = 2;

/// A format whose blocks can be unpacked for one row per lane.
pub(crate) trait RowFormat {
    /// The same block of `S::LANES` rows, unpacked.
    type Block<S: Simd>: Copy;
    /// Values in what is unpacked at once.
    const LEN: usize;
    /// How many of those make one block of the format.
    const PARTS: usize = 1;
    /// Tokens of a turn, where unpacking again for the next ones is cheap: as many as leave
    /// registers for what is unpacked. None elsewhere.
    const TURN_TOKENS: usize = 0;
    /// Where the parts of a block lie when rows are interleaved.
    const ORDER: Order = Order { scale: None, dwords: &[] };

    /// Something to write over. Implementations are `#[inline(always)]`.
    fn empty<S: Simd>(s: S) -> Self::Block<S>;

    /// Unpacks one part of the block that begins at byte `at` of each row.
    ///
    /// Implementations are `#[inline(always)]`.
    fn unpack<S: Simd>(
        s: S,
        rows: &LaneRows<'_>,
        at: usize,
        part: usize,
        block: &mut Self::Block<S>,
    );

    /// Some blocks of one row of activations: of [`LEN`](Self::LEN) values each.
    type Activations<'a>: Copy;

    /// The blocks of a row of `x`. Implementations are `#[inline(always)]`.
    fn activations<'a>(
        x: &ActivationView<'a>,
        row: usize,
        blocks: Range<usize>,
    ) -> Self::Activations<'a>;

    /// Adds the products of `blocks` with block `at` of each token of `x` to `sums`,
    /// which is `[token][vector of rows]`.
    ///
    /// Implementations are `#[inline(always)]`.
    fn add<S: Simd, const G: usize, const T: usize>(
        s: S,
        blocks: [&Self::Block<S>; G],
        x: &[Self::Activations<'_>; T],
        at: usize,
        sums: &mut [[S::F; G]; T],
    );

    /// Unpacks a part of a block of weights and adds its products with block
    /// `at_x` of each token of `x`; may leave `block` as it is.
    ///
    /// Implementations are `#[inline(always)]`.
    #[inline(always)]
    fn unpack_and_add<S: Simd, const T: usize>(
        s: S,
        (rows, at, part): (&LaneRows<'_>, usize, usize),
        block: &mut Self::Block<S>,
        x: &[Self::Activations<'_>; T],
        at_x: usize,
        sums: &mut [[S::F; 1]; T],
    ) {
        Self::unpack(s, rows, at, part, block);
        Self::add(s, [block], x, at_x, sums);
    }

    /// Multiplies with more tokens than [`Direct`] takes.
    ///
    /// Implementations are `#[inline(always)]`.
    #[inline(always)]
    fn multiply_many<S: Simd>(s: S, problem: Problem<'_>)
    where
        Self: Sized,
    {
        s.run(Panels::<Self>::new(problem));
    }
}

/// Runs `$body` with `$T` a constant equal to `$tokens`, which is 1 to `$max`, a
/// constant of 6 at most. No code is made for more.
macro_rules! with_tokens {
    ($tokens:expr, $max:expr, $T:ident => $body:expr) => {
        with_tokens!(@ $tokens, $max, $T, $body, 1 2 3 4 5 6)
    };
    (@ $tokens:expr, $max:expr, $T:ident, $body:expr, $($n:literal)*) => {
        match $tokens {
            $($n if const { $n <= $max } => { const $T: usize = $n; $body })*
            tokens => unreachable!("tiles have 1 to {} tokens, not {tokens}", $max),
        }
    };
}

pub(crate) use with_tokens;

/// The kernel for the instruction set `S`.
pub(crate) const fn kernel<S: Simd, F: RowFormat>(ty: TensorType) -> Kernel {
    Kernel::new(S::SET, ty, matmul::<S, F>)
}

/// The kernel for rows interleaved for the instruction set `S`, whose vectors load them so.
pub(crate) const fn packed_kernel<S: Simd, F: RowFormat>(ty: TensorType) -> Kernel {
    let packing = Packing { rows: S::LANES, order: F::ORDER };
    Kernel::packed(S::SET, ty, packing, matmul::<S, F>)
}

/// The multiplication for the instruction set `S`.
///
/// # Panics
///
/// When the CPU lacks it.
fn matmul<S: Simd, F: RowFormat>(problem: Problem<'_>) {
    let s = S::new().expect("kernels are chosen by what the CPU has");
    let n_tokens = problem.x.rows();
    let is_direct = n_tokens <= S::DIRECT_TOKENS;
    if !is_direct && (F::TURN_TOKENS == 0 || n_tokens > S::TURNS_TOKENS) {
        return F::multiply_many(s, problem);
    }
    let most = if is_direct { S::DIRECT_TOKENS } else { F::TURN_TOKENS.min(S::DIRECT_TOKENS) };
    let turns = n_tokens.div_ceil(most);
    let mut problem = problem;
    // What a turn leaves in a near cache, the next one reads there.
    let step = if turns > 1 { TURN_ROWS } else { problem.n_rows };
    // As many turns as are needed, of about the same size.
    let tokens = n_tokens.div_ceil(turns);
    for first in (0..problem.n_rows).step_by(step) {
        let rows = first..problem.n_rows.min(first + step);
        for token in (0..n_tokens).step_by(tokens) {
            let (problem, rows) = (&mut problem, rows.clone());
            with_tokens!(tokens.min(n_tokens - token), S::DIRECT_TOKENS, T => {
                s.run(Direct::<F, T> { problem, rows, token, format: PhantomData });
            });
        }
    }
}

/// Some rows with `T` tokens from `token` on, the sums in registers from the first column to
/// the last.
struct Direct<'p, 'a, F, const T: usize> {
    problem: &'p mut Problem<'a>,
    rows: Range<usize>,
    token: usize,
    format: PhantomData<F>,
}

impl<S: Simd, F: RowFormat, const T: usize> Job<S> for Direct<'_, '_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Self { problem, rows, token, .. } = self;
        let n_blocks = problem.cols / F::LEN;
        let mut block = F::empty(s);
        let x: [_; T] = std::array::from_fn(|t| F::activations(&problem.x, token + t, 0..n_blocks));
        let is_followed = S::PACKED && cpu::follows_streams(T);
        if !is_followed {
            let begin = rows.start * problem.row_bytes;
            prefetch(s, problem.weights, begin, S::LANES * problem.row_bytes);
        }
        for first in rows.step_by(S::LANES) {
            let next = first + S::LANES;
            let rows = LaneRows::new::<S>(problem.weights, problem.row_bytes, first, next)
                .followed(is_followed);
            let mut sums = [[s.splat_f32(0.0); 1]; T];
            for b in 0..n_blocks {
                let at = b / F::PARTS * problem.block_bytes;
                let part = (&rows, at, b % F::PARTS);
                F::unpack_and_add(s, part, &mut block, &x, b, &mut sums);
            }
            for (t, [sum]) in sums.iter().enumerate() {
                store(s, *sum, problem, token + t, first);
            }
        }
    }
}

/// All rows with any number of tokens, by panels.
pub(crate) struct Panels<'a, F> {
    problem: Problem<'a>,
    format: PhantomData<F>,
}

impl<'a, F> Panels<'a, F> {
    pub fn new(problem: Problem<'a>) -> Self {
        Self { problem, format: PhantomData }
    }
}

/// Unpacked blocks: `[vector of rows][block]`.
type Panel<S, F> = [[<F as RowFormat>::Block<S>; MAX_PANEL_BLOCKS]; MAX_TILE_VECTORS];

impl<S: Simd, F: RowFormat> Job<S> for Panels<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let mut problem = self.problem;
        let n_blocks = problem.cols / F::LEN;
        let panel_blocks = PANEL_COLS / F::LEN;
        let tokens = problem.x.rows();
        // As many tiles as are needed, of about the same size.
        let tile_tokens = tokens.div_ceil(tokens.div_ceil(S::TILE_TOKENS));
        let tile_rows = S::TILE_VECTORS * S::LANES;
        let mut panel: Panel<S, F> = [[F::empty(s); MAX_PANEL_BLOCKS]; MAX_TILE_VECTORS];
        let mut sums = vec![[s.splat_f32(0.0); MAX_TILE_VECTORS]; tokens];
        let is_followed = S::PACKED && cpu::follows_streams(tokens);
        if !is_followed {
            prefetch(s, problem.weights, 0, tile_rows * problem.row_bytes);
        }
        for first in (0..problem.n_rows).step_by(tile_rows) {
            let rows: [_; MAX_TILE_VECTORS] = std::array::from_fn(|g| {
                let first = first + g * S::LANES;
                LaneRows::new::<S>(problem.weights, problem.row_bytes, first, first + tile_rows)
                    .followed(is_followed)
            });
            sums.fill([s.splat_f32(0.0); MAX_TILE_VECTORS]);
            for begin in (0..n_blocks).step_by(panel_blocks) {
                let blocks = begin..n_blocks.min(begin + panel_blocks);
                for (rows, vector) in rows.iter().zip(&mut panel).take(S::TILE_VECTORS) {
                    for (b, block) in blocks.clone().zip(vector) {
                        let at = b / F::PARTS * problem.block_bytes;
                        F::unpack(s, rows, at, b % F::PARTS, block);
                    }
                }
                for (i, sums) in sums.chunks_mut(tile_tokens).enumerate() {
                    let (panel, x, first) = (&panel, &problem.x, i * tile_tokens);
                    let blocks = blocks.clone();
                    with_tokens!(sums.len(), S::TILE_TOKENS, T => if const { S::TILE_VECTORS == 2 } {
                        s.run(Tile::<S, F, 2, T> { panel, blocks, x, first, sums });
                    } else {
                        s.run(Tile::<S, F, 1, T> { panel, blocks, x, first, sums });
                    });
                }
            }
            for (t, sums) in sums.iter().enumerate() {
                for (g, sum) in sums.iter().enumerate().take(S::TILE_VECTORS) {
                    store(s, *sum, &mut problem, t, first + g * S::LANES);
                }
            }
        }
    }
}

/// A panel with `T` tokens, for `G` vectors of rows.
struct Tile<'a, S: Simd, F: RowFormat, const G: usize, const T: usize> {
    panel: &'a Panel<S, F>,
    /// Which blocks of a row the panel holds.
    blocks: Range<usize>,
    x: &'a ActivationView<'a>,
    /// First token of the tile.
    first: usize,
    sums: &'a mut [[S::F; MAX_TILE_VECTORS]],
}

impl<S: Simd, F: RowFormat, const G: usize, const T: usize> Job<S> for Tile<'_, S, F, G, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let x: [_; T] =
            std::array::from_fn(|t| F::activations(self.x, self.first + t, self.blocks.clone()));
        let all: &mut [_; T] = self.sums.try_into().expect("a tile has T tokens");
        let mut sums = [[s.splat_f32(0.0); G]; T];
        for t in 0..T {
            for g in 0..G {
                sums[t][g] = all[t][g];
            }
        }
        for i in 0..self.blocks.len() {
            let blocks = std::array::from_fn(|g| &self.panel[g][i]);
            F::add(s, blocks, &x, i, &mut sums);
        }
        for t in 0..T {
            for g in 0..G {
                all[t][g] = sums[t][g];
            }
        }
    }
}

/// Writes the sums of the rows from `first` on, as far as there are any.
#[inline(always)]
fn store<S: Simd>(s: S, sums: S::F, problem: &mut Problem<'_>, token: usize, first: usize) {
    let rows = &mut problem.out.token(token)[first.min(problem.n_rows)..];
    let len = rows.len();
    if len >= S::LANES {
        return s.store_f32(sums, rows);
    }
    let mut lanes = [0.0; MAX_LANES];
    s.store_f32(sums, &mut lanes);
    rows.copy_from_slice(&lanes[..len]);
}
