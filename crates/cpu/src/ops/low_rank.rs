//! What adapters add to products: `scale * b (a x)` for the rows of the sequences
//! that run with them, in the order in which a sequence names its adapters.

use std::ops::Range;
use std::sync::Mutex;

use realm_ir::{AdapterUse, BatchView, Error, Result, Rows, WeightRef};
use realm_quant::{ActivationForm, Activations};

use crate::adapter::{CpuAdapter, LowRankPair};
use crate::parts::Parts;
use crate::plan::LinearOp;
use crate::pool::Team;

/// Rows of `a` in a task.
const RANKS_PER_TASK: usize = 8;

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
    /// `a x` of each row, in the form that `b` multiplies with.
    inner: Activations,
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
        let inner = Activations::new();
        self.additions.push(Addition { output, rows, pair, scale, form, inner });
    }

    /// Computes `a x` of every addition. A task is a few rows of one `a`.
    ///
    /// # Errors
    /// When matrices and activations do not fit, which [`Additions::new`] rules out.
    pub fn multiply_inner(&mut self, x: &[Activations], team: &Team<'_>) -> QuantResult<()> {
        let mut inner: Vec<Vec<f32>> =
            self.additions.iter().map(|add| vec![0.0; add.rows.len() * add.rank()]).collect();
        let parts: Vec<_> = inner.iter_mut().map(|values| Parts::new(values)).collect();
        let mut tasks = Vec::new();
        for (index, addition) in self.additions.iter().enumerate() {
            let firsts = (0..addition.rank()).step_by(RANKS_PER_TASK);
            tasks.extend(firsts.map(|first| (index, first)));
        }
        let failure = Mutex::new(None);
        team.for_each(tasks.len(), &|_, task| {
            let (index, first) = tasks[task];
            let addition = &self.additions[index];
            let (a, rank) = (&addition.pair.a, addition.rank());
            let n = RANKS_PER_TASK.min(rank - first);
            let mut tile = vec![0.0; addition.rows.len() * n];
            let x = x[addition.form].view(addition.rows.clone());
            if let Err(error) =
                a.kernel().matmul(a.row_bytes(first, n), n, a.row_len(), x, &mut tile)
            {
                *failure.lock().expect("nothing panics while holding it") = Some(error);
                return;
            }
            for (row, values) in tile.chunks_exact(n).enumerate() {
                let start = row * rank + first;
                // SAFETY: these columns belong to one task.
                unsafe { parts[index].part(start..start + n) }.copy_from_slice(values);
            }
        });
        drop(parts);
        if let Some(error) = failure.into_inner().expect("nothing panics while holding it") {
            return Err(error);
        }
        for (addition, values) in self.additions.iter_mut().zip(&inner) {
            let (b, rank) = (&addition.pair.b, addition.pair.a.n_rows());
            addition.inner.reset(b.format().activation, addition.rows.len(), rank)?;
            for (row, values) in values.chunks_exact(rank).enumerate() {
                addition.inner.quantize_row(row, values)?;
            }
        }
        Ok(())
    }

    /// Adds to some columns of one output, `[tokens, columns]`.
    ///
    /// # Errors
    /// As [`Additions::multiply_inner`].
    pub fn add(
        &self,
        output: usize,
        columns: Range<usize>,
        tokens: Range<usize>,
        tile: &mut [f32],
    ) -> QuantResult<()> {
        for addition in self.additions.iter().filter(|add| add.output == output) {
            let rows = addition.rows.start.max(tokens.start)..addition.rows.end.min(tokens.end);
            if rows.is_empty() {
                continue;
            }
            let (b, n) = (&addition.pair.b, columns.len());
            let x = addition
                .inner
                .view(rows.start - addition.rows.start..rows.end - addition.rows.start);
            let mut added = vec![0.0; rows.len() * n];
            let bytes = b.row_bytes(columns.start, n);
            b.kernel().matmul(bytes, n, b.row_len(), x, &mut added)?;
            let target = &mut tile[(rows.start - tokens.start) * n..][..added.len()];
            let scale = addition.scale;
            target.iter_mut().zip(&added).for_each(|(value, added)| *value += scale * added);
        }
        Ok(())
    }
}

impl Addition<'_> {
    fn rank(&self) -> usize {
        self.pair.a.n_rows()
    }
}

impl LowRankPair {
    /// Checks that this can be added to `n_matrices` matrices of `[in_width, out_width]`.
    fn check(&self, in_width: usize, out_width: usize, n_matrices: usize) -> Result<()> {
        let rank = self.b.row_len();
        for (weight, row_len, n_rows) in
            [(&self.a, in_width, rank * n_matrices), (&self.b, rank, out_width * n_matrices)]
        {
            let (expected, found) = (row_len * n_rows, weight.row_len() * weight.n_rows());
            if weight.row_len() != row_len || expected != found {
                let what = weight.name().to_owned();
                return Err(Error::ShapeMismatch { what, expected, found });
            }
        }
        Ok(())
    }

    /// Adds `scale * b v` to `out`, with `b` that of one of several matrices.
    fn add_outer(&self, v: &[f32], matrix: usize, scale: f32, out: &mut [f32]) -> Result<()> {
        let added = product(&self.b, matrix, out.len(), v)?;
        let scale = scale * self.scale;
        out.iter_mut().zip(added).for_each(|(value, added)| *value += scale * added);
        Ok(())
    }
}

/// `out[i]`: one vector times one of several matrices of `n_rows` rows each.
fn product(
    weight: &crate::weight::CpuWeight,
    matrix: usize,
    n_rows: usize,
    x: &[f32],
) -> Result<Vec<f32>> {
    let mut out = vec![0.0; n_rows];
    let mut activations = Activations::new();
    let result = activations
        .reset(weight.format().activation, 1, x.len())
        .and_then(|()| activations.quantize_row(0, x))
        .and_then(|()| {
            let bytes = weight.row_bytes(matrix * n_rows, n_rows);
            weight.kernel().matmul(bytes, n_rows, x.len(), activations.view(0..1), &mut out)
        });
    result.map(|()| out).map_err(|error| Error::InvalidBatch { message: error.to_string() })
}

/// Adds what `adapters` have for one of the `n_matrices` in `weight` to its product with `x`.
///
/// # Errors
/// An adapter of another backend or for another program.
pub(crate) fn add_product(
    adapters: &[AdapterUse],
    weight: WeightRef,
    (matrix, n_matrices): (usize, usize),
    x: &[f32],
    out: &mut [f32],
) -> Result<()> {
    for used in adapters {
        let Some(pair) = CpuAdapter::of(used)?.product(weight) else { continue };
        pair.check(x.len(), out.len(), n_matrices)?;
        let inner = product(&pair.a, matrix, pair.b.row_len(), x)?;
        pair.add_outer(&inner, matrix, used.scale, out)?;
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
        let rank = pair.a.row_len();
        if pair.a.n_rows() != n_rows || pair.b.row_len() != rank || pair.b.n_rows() != out.len() {
            let (expected, found) = (out.len() * rank, pair.b.n_rows() * pair.b.row_len());
            return Err(Error::ShapeMismatch { what: pair.b.name().to_owned(), expected, found });
        }
        let mut inner = vec![0.0; rank];
        pair.a.dequantize_row(row, &mut inner);
        pair.add_outer(&inner, 0, used.scale, out)?;
    }
    Ok(())
}
