//! What adapters add to products: `scale * b (a x)` for the rows of the sequences
//! that run with them, in the order in which a sequence names its adapters.

use std::ops::Range;

use realm_ir::{AdapterUse, BatchView, Error, Result, Rows, WeightRef};
use realm_quant::{ActivationForm, Activations, OutputView};

use crate::adapter::{CpuAdapter, LowRankPair, Panels};
use crate::parts::Parts;
use crate::plan::LinearOp;
use crate::pool::Team;

/// Rows of `a` in a task.
const RANKS_PER_TASK: usize = 8;
/// Multiplications that one thread has done before others would have begun.
const ALONE: usize = 1 << 16;

type QuantResult<T> = std::result::Result<T, realm_quant::Error>;

/// Rows of a slot, one after another, that run with the same adapters.
pub(crate) struct AdaptedRows<'a> {
    pub rows: Range<usize>,
    pub adapters: &'a [AdapterUse],
}

/// The rows that run with adapters; none for a batch without any.
pub(crate) fn adapted_rows<'a>(rows: Rows, batch: &BatchView<'a>) -> Vec<AdaptedRows<'a>> {
    if !batch.has_adapters() {
        return Vec::new();
    }
    let adapted = batch.sequences.iter().filter(|sequence| !sequence.adapters.is_empty());
    let of_sequence = adapted.flat_map(|sequence| {
        let all = sequence.first_row..sequence.first_row + sequence.n_rows;
        let adapters = sequence.adapters;
        match rows {
            Rows::Batch => vec![AdaptedRows { rows: all, adapters }],
            Rows::Outputs => {
                let outputs = batch.output_rows.iter().enumerate();
                let own = outputs.filter(|(_, row)| all.contains(&(**row as usize)));
                own.map(|(i, _)| AdaptedRows { rows: i..i + 1, adapters }).collect()
            }
        }
    });
    of_sequence.collect()
}

/// The adapters of one row.
pub(crate) fn adapters_of_row<'a>(adapted: &[AdaptedRows<'a>], row: usize) -> &'a [AdapterUse] {
    adapted.iter().find(|part| part.rows.contains(&row)).map_or(&[], |part| part.adapters)
}

/// One adapter's addition to one output of a product.
struct Addition<'a> {
    /// Index into [`LinearOp::outputs`].
    output: usize,
    rows: Range<usize>,
    pair: &'a LowRankPair,
    scale: f32,
    /// Index into [`Additions::forms`].
    form: usize,
    /// `scale * a x`, `[rows, rank]`.
    inner: Vec<f32>,
}

/// Everything that adapters add to the outputs of a product.
pub(crate) struct Additions<'a> {
    /// What the product's weights multiply with, then what only adapters need.
    pub forms: Vec<ActivationForm>,
    additions: Vec<Addition<'a>>,
}

impl<'a> Additions<'a> {
    /// `None` when nothing is added.
    ///
    /// # Errors
    /// An adapter of another backend or for another program.
    pub fn new(op: &LinearOp, rows: Rows, batch: &BatchView<'a>) -> Result<Option<Self>> {
        let adapted = adapted_rows(rows, batch);
        if adapted.is_empty() {
            return Ok(None);
        }
        let mut all = Additions { forms: op.forms.clone(), additions: Vec::new() };
        for part in &adapted {
            for used in part.adapters {
                let adapter = CpuAdapter::of(used)?;
                for (output, target) in op.outputs.iter().enumerate() {
                    let Some(pair) = adapter.product(target.weight.reference()) else { continue };
                    pair.check(op.width, target.weight.n_rows(), 1)?;
                    let scale = used.scale * pair.scale;
                    all.push(output, part.rows.clone(), pair, scale);
                }
            }
        }
        Ok((!all.additions.is_empty()).then_some(all))
    }

    fn push(&mut self, output: usize, rows: Range<usize>, pair: &'a LowRankPair, scale: f32) {
        let wanted = pair.a.format().activation;
        let form = self.forms.iter().position(|form| *form == wanted).unwrap_or_else(|| {
            self.forms.push(wanted);
            self.forms.len() - 1
        });
        let inner = vec![0.0; rows.len() * pair.b.rank];
        self.additions.push(Addition { output, rows, pair, scale, form, inner });
    }

    /// Computes `scale * a x` of every addition. A task is a few rows of one `a`.
    ///
    /// # Errors
    /// When matrices and activations do not fit, which [`Additions::new`] rules out.
    pub fn multiply_inner(&mut self, x: &[Activations], team: &Team<'_>) -> Result<()> {
        let mut inner: Vec<Vec<f32>> =
            self.additions.iter_mut().map(|add| std::mem::take(&mut add.inner)).collect();
        let work: usize =
            self.additions.iter().zip(&inner).map(|(add, v)| v.len() * add.pair.a.row_len()).sum();
        let parts: Vec<_> = inner.iter_mut().map(|values| Parts::new(values)).collect();
        let mut tasks = Vec::new();
        for (index, addition) in self.additions.iter().enumerate() {
            let firsts = (0..addition.pair.b.rank).step_by(RANKS_PER_TASK);
            tasks.extend(firsts.map(|first| (index, first)));
        }
        let run = |_: usize, task: usize| {
            let (index, first) = tasks[task];
            let addition = &self.additions[index];
            let n = RANKS_PER_TASK.min(addition.pair.b.rank - first);
            let product = addition.multiply_inner(x, first, n, &parts[index]);
            product.map_err(|error| addition.pair.a.misfit(error))
        };
        match work < ALONE {
            true => (0..tasks.len()).try_for_each(|task| run(0, task))?,
            false => team.try_for_each(tasks.len(), &run)?,
        }
        drop(parts);
        self.additions.iter_mut().zip(inner).for_each(|(add, inner)| add.inner = inner);
        Ok(())
    }

    /// Adds to some columns of one output, `[tokens, columns]`; the first column begins a
    /// panel.
    pub fn add(
        &self,
        output: usize,
        columns: Range<usize>,
        tokens: Range<usize>,
        tile: &mut [f32],
    ) {
        for addition in self.additions.iter().filter(|add| add.output == output) {
            let rank = addition.pair.b.rank;
            let rows = addition.rows.start.max(tokens.start)..addition.rows.end.min(tokens.end);
            for row in rows {
                let inner = &addition.inner[(row - addition.rows.start) * rank..][..rank];
                let target = &mut tile[(row - tokens.start) * columns.len()..][..columns.len()];
                addition.pair.b.add(0, inner, columns.clone(), target);
            }
        }
    }
}

impl Addition<'_> {
    /// `n` columns of `inner`, from `first` on. Only one task has them.
    fn multiply_inner(
        &self,
        x: &[Activations],
        first: usize,
        n: usize,
        inner: &Parts<'_, f32>,
    ) -> QuantResult<()> {
        let (a, rank) = (&self.pair.a, self.pair.b.rank);
        let mut tile = vec![0.0; self.rows.len() * n];
        let x = x[self.form].view(self.rows.clone());
        a.matmul(first, x, OutputView::new(&mut tile, self.rows.len(), n)?)?;
        for (row, values) in tile.chunks_exact(n).enumerate() {
            let start = row * rank + first;
            // SAFETY: these columns belong to one task.
            let target = unsafe { inner.part(start..start + n) };
            target.iter_mut().zip(values).for_each(|(target, v)| *target = self.scale * v);
        }
        Ok(())
    }
}

impl LowRankPair {
    /// Checks that this can be added to `n_matrices` matrices of `[in_width, out_width]`.
    fn check(&self, in_width: usize, out_width: usize, n_matrices: usize) -> Result<()> {
        let (a, b) = (&self.a, &self.b);
        let expected = [in_width, b.rank * n_matrices, out_width, n_matrices];
        misfit(self, expected, [a.row_len(), a.n_rows(), b.n_columns, b.n_matrices])
    }

    /// Adds `scale * b v` to `out`, with the part of `b` for those rows.
    fn add_outer(&self, mut v: Vec<f32>, part: MatrixPart, scale: f32, out: &mut [f32]) {
        v.iter_mut().for_each(|v| *v *= scale * self.scale);
        let rows = part.first_row..part.first_row + out.len();
        self.b.add(part.matrix, &v, rows, out);
    }
}

/// Refuses a pair whose dimensions are not those expected.
fn misfit(pair: &LowRankPair, expected: [usize; 4], found: [usize; 4]) -> Result<()> {
    match expected.into_iter().zip(found).find(|(expected, found)| expected != found) {
        Some((expected, found)) => {
            Err(Error::ShapeMismatch { what: pair.b.name().to_owned(), expected, found })
        }
        None => Ok(()),
    }
}

/// Some rows of one of several matrices in a weight.
#[derive(Clone, Copy)]
pub(crate) struct MatrixPart {
    pub matrix: usize,
    pub n_matrices: usize,
    pub first_row: usize,
    /// Rows of the whole matrix.
    pub n_rows: usize,
}

/// Adds what `adapters` have for a part of `weight` to its product with `x`.
///
/// # Errors
/// An adapter of another backend or for another program; `Unsupported` for a part
/// that does not begin where the adapters' panels do.
pub(crate) fn add_product(
    adapters: &[AdapterUse],
    weight: WeightRef,
    part: MatrixPart,
    x: &[f32],
    out: &mut [f32],
) -> Result<()> {
    for used in adapters {
        let Some(pair) = CpuAdapter::of(used)?.product(weight) else { continue };
        pair.check(x.len(), part.n_rows, part.n_matrices)?;
        if !part.first_row.is_multiple_of(Panels::COLUMNS) {
            let what = format!("{}: rows from {} on", pair.b.name(), part.first_row);
            return Err(Error::Unsupported { what, backend: crate::NAME });
        }
        let (a, rank) = (&pair.a, pair.b.rank);
        let mut inner = vec![0.0; rank];
        let mut activations = Activations::new(a.level());
        let result = activations
            .reset(a.format().activation, 1, x.len())
            .and_then(|()| activations.quantize_row(0, x))
            .and_then(|()| OutputView::new(&mut inner, 1, rank))
            .and_then(|inner| a.matmul(part.matrix * rank, activations.view(0..1), inner));
        result.map_err(|error| a.misfit(error))?;
        pair.add_outer(inner, part, used.scale, out);
    }
    Ok(())
}

/// Adds what `adapters` have for row `row` of the table `weight`.
///
/// # Errors
/// An adapter of another backend or for another program.
pub(crate) fn add_lookup(
    adapters: &[AdapterUse],
    weight: WeightRef,
    (row, n_rows): (usize, usize),
    out: &mut [f32],
) -> Result<()> {
    for used in adapters {
        let Some(pair) = CpuAdapter::of(used)?.lookup(weight) else { continue };
        let (a, b) = (&pair.a, &pair.b);
        let expected = [b.rank, n_rows, out.len(), 1];
        misfit(pair, expected, [a.row_len(), a.n_rows(), b.n_columns, b.n_matrices])?;
        let mut inner = vec![0.0; b.rank];
        a.dequantize_row(row, &mut inner);
        let whole = MatrixPart { matrix: 0, n_matrices: 1, first_row: 0, n_rows: out.len() };
        pair.add_outer(inner, whole, used.scale, out);
    }
    Ok(())
}
