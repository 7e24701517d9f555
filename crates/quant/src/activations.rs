//! Activations in the forms that the kernels multiply with.
//!
//! Quantised weights meet activations rounded to int8, so that the products of
//! a block are summed as integers. A block of activations has one scale
//! `d = max |x| / 127` and `q = round(x / d)`, ties to even.

use std::ops::Range;

use crate::Level;
use crate::error::{Error, check_len};
use crate::simd::{FloatJob, FloatSimd};

/// How activations are stored for a format's dot product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationForm {
    /// The values themselves, for float weights.
    F32,
    /// int8 with one f32 scale and one integer sum per 32 values, for blocks of 32.
    Q8Block32,
    /// int8 with one f32 scale per 256 values and integer sums per 16 and 32, for K-quants.
    Q8Block256,
}

impl ActivationForm {
    /// Values that share a scale; rows are whole multiples of it.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Q8Block32 => 32,
            Self::Q8Block256 => 256,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32 activations",
            Self::Q8Block32 => "Q8Block32 activations",
            Self::Q8Block256 => "Q8Block256 activations",
        }
    }
}

/// Values whose sums are one number: one in the form with blocks of 32, two in the other.
const SUM_LEN: usize = 32;
/// Entries of `sums` per block of 256: pairs of i16, the sums of the sixteen runs of 16
/// values, then those of the eight runs of 32.
pub(crate) const SUMS_256: usize = PAIRS_16 + PAIRS_32;
/// Pairs of runs of 16 values in a block of 256.
pub(crate) const PAIRS_16: usize = 8;
const PAIRS_32: usize = 4;

/// Elements of each array that one row needs.
#[derive(Clone, Copy, Debug, Default)]
struct RowLens {
    values: usize,
    quants: usize,
    scales: usize,
    sums: usize,
}

impl RowLens {
    const fn new(form: ActivationForm, cols: usize) -> Self {
        match form {
            ActivationForm::F32 => Self { values: cols, quants: 0, scales: 0, sums: 0 },
            ActivationForm::Q8Block32 => {
                let blocks = cols / 32;
                Self { values: 0, quants: cols, scales: blocks, sums: blocks }
            }
            ActivationForm::Q8Block256 => {
                let blocks = cols / 256;
                Self { values: 0, quants: cols, scales: blocks, sums: blocks * SUMS_256 }
            }
        }
    }
}

/// Rows of activations in one form, in memory that is kept between uses.
///
/// A structure of arrays; in each array the rows follow one another.
#[derive(Debug)]
pub struct Activations {
    level: Level,
    form: ActivationForm,
    rows: usize,
    cols: usize,
    values: Vec<f32>,
    quants: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Activations {
    /// No rows and no memory; rows will be filled with the vectors of `level`, with the same
    /// bits at every level.
    pub const fn new(level: Level) -> Self {
        Self {
            level,
            form: ActivationForm::F32,
            rows: 0,
            cols: 0,
            values: Vec::new(),
            quants: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Bytes of a row of `cols` values in a form.
    pub const fn row_bytes(form: ActivationForm, cols: usize) -> usize {
        let RowLens { values, quants, scales, sums } = RowLens::new(form, cols);
        4 * values + quants + 4 * scales + 4 * sums
    }

    /// Makes room for `rows` rows of `cols` values, reusing the memory held.
    ///
    /// The contents are unspecified until each row has been filled.
    ///
    /// # Errors
    ///
    /// [`Error::Blocks`] when a row is not whole blocks of the form,
    /// [`Error::TooLarge`] when the size overflows.
    pub fn reset(&mut self, form: ActivationForm, rows: usize, cols: usize) -> Result<(), Error> {
        if !cols.is_multiple_of(form.block_len()) {
            let block_len = form.block_len();
            return Err(Error::Blocks { what: form.name(), cols, block_len });
        }
        let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(size_of::<f32>()));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(Error::TooLarge { rows, cols });
        }
        let lens = RowLens::new(form, cols);
        (self.form, self.rows, self.cols) = (form, rows, cols);
        self.values.resize(rows * lens.values, 0.0);
        self.quants.resize(rows * lens.quants, 0);
        self.scales.resize(rows * lens.scales, 0.0);
        self.sums.resize(rows * lens.sums, 0);
        Ok(())
    }

    /// The form set by the last [`reset`](Self::reset).
    pub fn form(&self) -> ActivationForm {
        self.form
    }

    /// Rows set by the last [`reset`](Self::reset).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row set by the last [`reset`](Self::reset).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Fills row `row` from `x`, which has `cols` values.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] when `x` is not one row long.
    ///
    /// # Panics
    ///
    /// When `row` is not less than `rows`.
    pub fn quantize_row(&mut self, row: usize, x: &[f32]) -> Result<(), Error> {
        self.rows_mut().quantize_row(row, x)
    }

    /// All rows, to be filled; can be split for several threads.
    pub fn rows_mut(&mut self) -> ActivationRowsMut<'_> {
        ActivationRowsMut {
            level: self.level,
            form: self.form,
            rows: self.rows,
            cols: self.cols,
            values: &mut self.values,
            quants: &mut self.quants,
            scales: &mut self.scales,
            sums: &mut self.sums,
        }
    }

    /// The rows of `rows`, to multiply with.
    ///
    /// # Panics
    ///
    /// When the range reaches beyond the rows held.
    pub fn view(&self, rows: Range<usize>) -> ActivationView<'_> {
        let lens = RowLens::new(self.form, self.cols);
        let part = |len: usize| rows.start * len..rows.end * len;
        assert!(rows.start <= rows.end && rows.end <= self.rows, "{rows:?} of {} rows", self.rows);
        ActivationView {
            form: self.form,
            rows: rows.len(),
            cols: self.cols,
            values: &self.values[part(lens.values)],
            quants: &self.quants[part(lens.quants)],
            scales: &self.scales[part(lens.scales)],
            sums: &self.sums[part(lens.sums)],
        }
    }
}

/// Rows of [`Activations`] that can be filled, and split between threads.
#[derive(Debug)]
pub struct ActivationRowsMut<'a> {
    level: Level,
    form: ActivationForm,
    rows: usize,
    cols: usize,
    values: &'a mut [f32],
    quants: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

impl<'a> ActivationRowsMut<'a> {
    /// Rows in this part.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The first `row` rows, and the others.
    ///
    /// # Panics
    ///
    /// When `row` is greater than the number of rows.
    pub fn split_at(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "split at row {row} of {}", self.rows);
        let lens = RowLens::new(self.form, self.cols);
        let values = self.values.split_at_mut(row * lens.values);
        let quants = self.quants.split_at_mut(row * lens.quants);
        let scales = self.scales.split_at_mut(row * lens.scales);
        let sums = self.sums.split_at_mut(row * lens.sums);
        let part = |rows, values, quants, scales, sums| Self {
            level: self.level,
            form: self.form,
            rows,
            cols: self.cols,
            values,
            quants,
            scales,
            sums,
        };
        (
            part(row, values.0, quants.0, scales.0, sums.0),
            part(self.rows - row, values.1, quants.1, scales.1, sums.1),
        )
    }

    /// Fills row `row` of this part from `x`, which has `cols` values.
    ///
    /// A block that holds a NaN or an infinity gets a NaN scale, so every
    /// result it enters is NaN. A block whose values are all smaller than about
    /// 4e-37 becomes zero.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] when `x` is not one row long.
    ///
    /// # Panics
    ///
    /// When `row` is not less than `rows`.
    pub fn quantize_row(&mut self, row: usize, x: &[f32]) -> Result<(), Error> {
        check_len("activation row", self.cols, x.len())?;
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let lens = RowLens::new(self.form, self.cols);
        let part = |len: usize| row * len..(row + 1) * len;
        self.values[part(lens.values)].copy_from_slice(&x[..lens.values]);
        let target = QuantRow {
            quants: &mut self.quants[part(lens.quants)],
            scales: &mut self.scales[part(lens.scales)],
            sums: &mut self.sums[part(lens.sums)],
        };
        match self.form {
            ActivationForm::F32 => {}
            ActivationForm::Q8Block32 => self.level.run(Fill::<32>(target, x)),
            ActivationForm::Q8Block256 => self.level.run(Fill::<256>(target, x)),
        }
        Ok(())
    }
}

/// The integer arrays of one row.
struct QuantRow<'a> {
    quants: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

/// Quantises blocks of `LEN` values of a row: plain code that compilers make vectors of.
struct Fill<'a, const LEN: usize>(QuantRow<'a>, &'a [f32]);

impl<const LEN: usize> FloatJob for Fill<'_, LEN> {
    type Output = ();

    #[inline(always)]
    fn run<S: FloatSimd>(self, _: S) {
        let Self(row, x) = self;
        row.fill_blocks::<LEN>(x);
    }
}

impl QuantRow<'_> {
    #[inline(always)]
    fn fill_blocks<const LEN: usize>(self, x: &[f32]) {
        let (x, _) = x.as_chunks::<LEN>();
        let (quants, _) = self.quants.as_chunks_mut::<LEN>();
        let sums = self.sums.chunks_exact_mut(if LEN == 32 { 1 } else { SUMS_256 });
        for (((x, quants), scale), sums) in x.iter().zip(quants).zip(self.scales).zip(sums) {
            *scale = quantize_block(x, quants);
            if LEN == 32 {
                sums[0] = sum_of(quants);
                continue;
            }
            let (groups, _) = quants.as_chunks::<SUM_LEN>();
            let (of_16, of_32) = sums.split_at_mut(PAIRS_16);
            for (sum, group) in of_16.iter_mut().zip(groups) {
                *sum = packed_sums(group);
            }
            let (groups, _) = quants.as_chunks::<{ 2 * SUM_LEN }>();
            for (sum, group) in of_32.iter_mut().zip(groups) {
                *sum = packed_sums(group);
            }
        }
    }
}

/// Rounds one block to int8 and returns its scale.
#[inline(always)]
fn quantize_block<const LEN: usize>(x: &[f32; LEN], quants: &mut [i8; LEN]) -> f32 {
    // As integers, magnitudes order like floats, infinity and NaN above the rest.
    let magnitude = x.iter().fold(0, |max, v| max.max(v.to_bits() & 0x7fff_ffff));
    let max = f32::from_bits(magnitude);
    let inverse = 127.0 / max;
    if !max.is_finite() || !inverse.is_finite() {
        quants.fill(0);
        return if max.is_finite() { 0.0 } else { f32::NAN };
    }
    // Adding 1.5 * 2^23 rounds to an integer, ties to even, in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    for (q, v) in quants.iter_mut().zip(x) {
        *q = ((v * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32) as i8;
    }
    max / 127.0
}

#[inline(always)]
fn sum_of(values: &[i8]) -> i32 {
    values.iter().map(|v| i32::from(*v)).sum()
}

/// The sums of the first and the second half as two i16, the first one low.
#[inline(always)]
fn packed_sums(group: &[i8]) -> i32 {
    let (low, high) = group.split_at(group.len() / 2);
    (sum_of(low) & 0xffff) | (sum_of(high) << 16)
}

/// Values `4 * j..4 * j + 4`.
#[inline(always)]
pub(crate) fn four<const LEN: usize>(quants: &[i8; LEN], j: usize) -> [i8; 4] {
    quants.as_chunks().0[j]
}

/// Values `4 * at.start..4 * at.end` of block `block` of each row.
#[inline(always)]
pub(crate) fn fours<'a, const LEN: usize, const SUMS: usize, const T: usize>(
    x: &[Blocks<'a, LEN, SUMS>; T],
    block: usize,
    at: Range<usize>,
) -> [&'a [[i8; 4]]; T] {
    // Not `map`, which is a call where its closure may panic.
    let mut fours: [&[_]; T] = [&[]; T];
    for (to, x) in fours.iter_mut().zip(x) {
        *to = &x.quants[block].as_chunks().0[at.clone()];
    }
    fours
}

/// Some blocks of one row of int8 activations, each with its scale.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a, const LEN: usize, const SUMS: usize> {
    pub quants: &'a [[i8; LEN]],
    pub scales: &'a [f32],
    /// See [`ActivationView::sums`].
    pub sums: &'a [[i32; SUMS]],
}

/// Rows of activations to multiply with: `rows` x `cols` in one form.
#[derive(Clone, Copy, Debug)]
pub struct ActivationView<'a> {
    form: ActivationForm,
    rows: usize,
    cols: usize,
    values: &'a [f32],
    quants: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> ActivationView<'a> {
    /// The form of every row.
    pub fn form(&self) -> ActivationForm {
        self.form
    }

    /// Number of rows (tokens).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// f32 rows (form F32).
    pub(crate) fn values(&self) -> &'a [f32] {
        self.values
    }

    /// int8 rows (integer forms).
    pub(crate) fn quants(&self) -> &'a [i8] {
        self.quants
    }

    /// One scale per block (integer forms).
    pub(crate) fn scales(&self) -> &'a [f32] {
        self.scales
    }

    /// Sums of values (integer forms): one per block in Q8Block32, [`SUMS_256`] entries
    /// per block in Q8Block256, each two i16 with the first one low.
    pub(crate) fn sums(&self) -> &'a [i32] {
        self.sums
    }

    /// Some blocks of one row (integer forms), in runs of `LEN` values and `SUMS` sums.
    #[inline(always)]
    pub(crate) fn blocks<const LEN: usize, const SUMS: usize>(
        &self,
        row: usize,
        blocks: Range<usize>,
    ) -> Blocks<'a, LEN, SUMS> {
        let n = self.cols / LEN;
        let span = row * n + blocks.start..row * n + blocks.end;
        Blocks {
            quants: &self.quants.as_chunks().0[span.clone()],
            scales: &self.scales[span.clone()],
            sums: &self.sums.as_chunks().0[span],
        }
    }

    /// Row `row` as values again; what the kernels' integers stand for.
    ///
    /// # Panics
    ///
    /// When `row` is not less than `rows`.
    pub fn dequantize_row(&self, row: usize) -> Vec<f32> {
        let span = row * self.cols..(row + 1) * self.cols;
        match self.form {
            ActivationForm::F32 => self.values[span].to_vec(),
            ActivationForm::Q8Block32 | ActivationForm::Q8Block256 => span
                .map(|i| f32::from(self.quants[i]) * self.scales[i / self.form.block_len()])
                .collect(),
        }
    }
}
