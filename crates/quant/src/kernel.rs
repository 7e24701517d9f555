//! A kernel: one way to multiply weights of one type with activations.

use std::marker::PhantomData;
use std::ops::Range;

use realm_gguf::TensorType;

use crate::ActivationView;
use crate::cpu::InstructionSet;
use crate::error::{Error, check_len};
use crate::packing::Packing;

/// One kernel of one format, for one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// The instruction set, such as `avx512vnni`.
    pub name: &'static str,
    pub(crate) set: InstructionSet,
    ty: TensorType,
    packing: Option<Packing>,
    run: fn(Problem<'_>),
}

/// A multiplication whose lengths have been checked.
pub(crate) struct Problem<'a> {
    /// Whole rows, one after another. There is at least one, of at least one
    /// block, and at least one token.
    pub weights: &'a [u8],
    pub n_rows: usize,
    pub cols: usize,
    pub row_bytes: usize,
    pub block_bytes: usize,
    pub x: ActivationView<'a>,
    pub out: OutputView<'a>,
}

impl Kernel {
    /// `run` panics where the CPU lacks `set`.
    pub(crate) const fn new(set: InstructionSet, ty: TensorType, run: fn(Problem<'_>)) -> Self {
        Self { name: set.name(), set, ty, packing: None, run }
    }

    /// A kernel for interleaved rows.
    pub(crate) const fn packed(
        set: InstructionSet,
        ty: TensorType,
        packing: Packing,
        run: fn(Problem<'_>),
    ) -> Self {
        Self { name: set.name(), set, ty, packing: Some(packing), run }
    }

    /// Rows that lie interleaved in the weights this kernel reads; 1 for GGUF's own layout.
    pub fn group_rows(&self) -> usize {
        self.packing.map_or(1, |packing| packing.rows)
    }

    /// Brings rows from GGUF layout into this kernel's, which takes as many bytes.
    ///
    /// - `weights`: `n_rows` whole rows of `cols` values
    /// - `out`: as many bytes; overwritten
    ///
    /// # Errors
    ///
    /// [`Error::Blocks`], [`Error::Groups`] or [`Error::Length`] when the arguments do
    /// not fit together; `out` is then unchanged.
    pub fn pack(
        &self,
        weights: &[u8],
        n_rows: usize,
        cols: usize,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let row_bytes = self.check_weights(weights, n_rows, cols)?;
        check_len("packed weights", weights.len(), out.len())?;
        match self.packing {
            Some(packing) => packing.pack(weights, row_bytes, self.ty.block_bytes(), out),
            None => out.copy_from_slice(weights),
        }
        Ok(())
    }

    /// Brings one row back from this kernel's layout into GGUF's.
    ///
    /// - `group`: the whole group of [`group_rows`](Self::group_rows) rows that has the row
    /// - `row`: its number within the group
    /// - `out`: one row; overwritten
    ///
    /// # Errors
    ///
    /// [`Error::Length`] or [`Error::Groups`] when the arguments do not fit together; `out`
    /// is then unchanged.
    pub fn unpack_row(&self, group: &[u8], row: usize, out: &mut [u8]) -> Result<(), Error> {
        let rows = self.group_rows();
        if row >= rows {
            return Err(Error::Groups { rows: row + 1, group: rows });
        }
        check_len("packed rows", rows * out.len(), group.len())?;
        match self.packing {
            Some(packing) => packing.unpack_row(group, row, self.ty.block_bytes(), out),
            None => out.copy_from_slice(group),
        }
        Ok(())
    }

    /// Bytes of a row, if `weights` is whole rows and whole groups of them.
    fn check_weights(&self, weights: &[u8], n_rows: usize, cols: usize) -> Result<usize, Error> {
        let block_len = self.ty.block_len();
        if !cols.is_multiple_of(block_len) {
            return Err(Error::Blocks { what: self.ty.name(), cols, block_len });
        }
        let group = self.group_rows();
        if !n_rows.is_multiple_of(group) {
            return Err(Error::Groups { rows: n_rows, group });
        }
        let row_bytes = cols / block_len * self.ty.block_bytes();
        let bytes = row_bytes.checked_mul(n_rows).ok_or(Error::TooLarge { rows: n_rows, cols })?;
        check_len("weights", bytes, weights.len())?;
        Ok(row_bytes)
    }

    /// `out[t * n_rows + r] = sum over k of w[r][k] * x[t][k]`.
    ///
    /// - `weights`: `n_rows` whole rows in this kernel's layout, see [`pack`](Self::pack)
    /// - `cols`: values per row of weights and of `x`
    /// - `x`: one row per token, in the format's [`activation`](crate::Format::activation) form
    /// - `out`: `x.rows() * n_rows` values; overwritten
    ///
    /// # Errors
    ///
    /// [`Error::Blocks`], [`Error::Groups`], [`Error::Form`] or [`Error::Length`] when
    /// the arguments do not fit together; `out` is then unchanged.
    pub fn matmul(
        &self,
        weights: &[u8],
        n_rows: usize,
        cols: usize,
        x: ActivationView<'_>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let out = OutputView::new(out, x.rows(), n_rows)?;
        self.matmul_into(weights, n_rows, cols, x, out)
    }

    /// Like [`matmul`](Self::matmul), into some columns of a larger output.
    ///
    /// `out` is `x.rows()` tokens of `n_rows` values.
    ///
    /// # Errors
    ///
    /// As for [`matmul`](Self::matmul).
    pub fn matmul_into(
        &self,
        weights: &[u8],
        n_rows: usize,
        cols: usize,
        x: ActivationView<'_>,
        mut out: OutputView<'_>,
    ) -> Result<(), Error> {
        let row_bytes = self.check_weights(weights, n_rows, cols)?;
        let expected = crate::format(self.ty).map_or(x.form(), |format| format.activation);
        if x.form() != expected {
            return Err(Error::Form { ty: self.ty, expected, found: x.form() });
        }
        check_len("activation row", cols, x.cols())?;
        let block_bytes = self.ty.block_bytes();
        check_len("output tokens", x.rows(), out.tokens)?;
        check_len("output rows", n_rows, out.rows)?;
        if n_rows == 0 || cols == 0 {
            (0..x.rows()).for_each(|t| out.token(t).fill(0.0));
        }
        if n_rows == 0 || cols == 0 || x.rows() == 0 {
            return Ok(());
        }
        (self.run)(Problem { weights, n_rows, cols, row_bytes, block_bytes, x, out });
        Ok(())
    }
}

/// Some columns of a matrix of outputs: `tokens` rows, `rows` values in each.
///
/// Exclusive, and can be split by columns so that several threads fill one matrix.
#[derive(Debug)]
pub struct OutputView<'a> {
    first: *mut f32,
    tokens: usize,
    rows: usize,
    /// Values from one token to the next.
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: like the `&mut [f32]` it was made from, it alone reaches its elements;
// `split_at` gives out disjoint columns.
unsafe impl Send for OutputView<'_> {}

impl<'a> OutputView<'a> {
    /// The whole of `out`: `out[t * rows + r]`.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] when `out` does not have `tokens * rows` values.
    pub fn new(out: &'a mut [f32], tokens: usize, rows: usize) -> Result<Self, Error> {
        let len = tokens.checked_mul(rows).ok_or(Error::TooLarge { rows: tokens, cols: rows })?;
        check_len("output", len, out.len())?;
        let first = out.as_mut_ptr();
        Ok(Self { first, tokens, rows, stride: rows, matrix: PhantomData })
    }

    /// The first `row` values of every token, and the others.
    ///
    /// # Panics
    ///
    /// When `row` is greater than the number of values per token.
    pub fn split_at(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "split at row {row} of {}", self.rows);
        let second = Self {
            // Wrapping: without tokens there is no memory to stay inside of.
            first: self.first.wrapping_add(row),
            rows: self.rows - row,
            ..self
        };
        (Self { rows: row, ..self }, second)
    }

    /// Some of the tokens, while `self` is borrowed.
    ///
    /// # Panics
    ///
    /// When the range reaches beyond the tokens.
    pub fn part(&mut self, tokens: Range<usize>) -> OutputView<'_> {
        assert!(tokens.start <= tokens.end && tokens.end <= self.tokens, "tokens {tokens:?}");
        let first = self.first.wrapping_add(tokens.start * self.stride);
        OutputView { first, tokens: tokens.len(), ..*self }
    }

    /// Values per token in this part.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The values of one token.
    ///
    /// # Panics
    ///
    /// When `token` is not less than the number of tokens.
    pub fn token(&mut self, token: usize) -> &mut [f32] {
        assert!(token < self.tokens, "token {token} of {}", self.tokens);
        // SAFETY: `rows` values from here lie inside the matrix this part was made
        // from, belong to this part alone, and the borrow of `self` guards them.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(token * self.stride), self.rows) }
    }
}
