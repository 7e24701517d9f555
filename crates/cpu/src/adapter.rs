//! An adapter on the CPU: its matrices by the weight they are added to.

use std::collections::HashMap;
use std::ops::Range;

use realm_gguf::TensorData;
use realm_ir::{Adapter, AdapterUse, Error, LowRank, Result, WeightRef};
use realm_quant::Level;

use crate::math;
use crate::weight::CpuWeight;

/// Additions to some weights of a program.
pub(crate) struct CpuAdapter {
    products: HashMap<WeightRef, LowRankPair>,
    lookups: HashMap<WeightRef, LowRankPair>,
}

/// `scale * b a`, shaped as in [`LowRank`].
pub(crate) struct LowRankPair {
    pub a: CpuWeight,
    pub b: Panels,
    pub scale: f32,
}

impl CpuAdapter {
    /// # Errors
    /// `UnsupportedType` when a matrix has no compute format, `OutOfMemory`.
    pub fn new(adapter: &Adapter, level: Level) -> Result<Self> {
        let pairs = |parts| pairs(parts, level);
        Ok(CpuAdapter { products: pairs(&adapter.products)?, lookups: pairs(&adapter.lookups)? })
    }

    /// The adapter behind a handle that this backend gave out.
    pub fn of(used: &AdapterUse) -> Result<&Self> {
        used.adapter.downcast_ref().ok_or_else(|| Error::Unsupported {
            what: "an adapter uploaded to another backend".to_owned(),
            backend: crate::NAME,
        })
    }

    /// What is added where `weight` is multiplied.
    pub fn product(&self, weight: WeightRef) -> Option<&LowRankPair> {
        self.products.get(&weight)
    }

    /// What is added where rows of `weight` are looked up.
    pub fn lookup(&self, weight: WeightRef) -> Option<&LowRankPair> {
        self.lookups.get(&weight)
    }
}

fn pairs(parts: &[LowRank], level: Level) -> Result<HashMap<WeightRef, LowRankPair>> {
    let pair = |part: &LowRank| -> Result<LowRankPair> {
        let (a, b) = (CpuWeight::new(&part.a, level)?, Panels::new(&part.b, level)?);
        Ok(LowRankPair { a, b, scale: part.scale })
    };
    parts.iter().map(|part| Ok((part.weight, pair(part)?))).collect()
}

/// Matrices `[rank, n_columns]` in f32, turned so that a vector of `rank` values adds to
/// neighbouring columns at once: its rows are too short to be summed along.
///
/// Of each matrix, panels of [`Panels::COLUMNS`] columns, the last one of what is left;
/// of each panel, its columns' first values, then their second ones.
pub(crate) struct Panels {
    name: Box<str>,
    pub rank: usize,
    pub n_columns: usize,
    pub n_matrices: usize,
    values: Vec<f32>,
    level: Level,
}

impl Panels {
    /// Columns of a panel.
    pub const COLUMNS: usize = 16;

    fn new(tensor: &TensorData, level: Level) -> Result<Self> {
        let weight = CpuWeight::new(tensor, level)?;
        let (rank, n_columns) = (weight.row_len(), tensor.shape().get(1).copied().unwrap_or(1));
        let len = weight.n_rows() * rank;
        let out_of_memory =
            |()| Error::OutOfMemory { what: tensor.name().to_owned(), bytes: len * 4 };
        let mut values: Vec<f32> =
            bytemuck::allocation::try_zeroed_vec(len).map_err(out_of_memory)?;
        let mut row = vec![0.0; rank];
        for (index, matrix) in values.chunks_exact_mut(n_columns * rank).enumerate() {
            for (panel, values) in matrix.chunks_mut(Self::COLUMNS * rank).enumerate() {
                let width = values.len() / rank;
                for column in 0..width {
                    weight.dequantize_row(
                        index * n_columns + panel * Self::COLUMNS + column,
                        &mut row,
                    );
                    let target = values.iter_mut().skip(column).step_by(width);
                    target.zip(&row).for_each(|(target, value)| *target = *value);
                }
            }
        }
        let n_matrices = weight.n_rows() / n_columns;
        Ok(Panels { name: tensor.name().into(), rank, n_columns, n_matrices, values, level })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `out += matrix v` for some columns: whole panels, up to the last one.
    pub fn add(&self, matrix: usize, v: &[f32], columns: Range<usize>, out: &mut [f32]) {
        let first = matrix * self.n_columns * self.rank;
        let values = &self.values[first..][..self.n_columns * self.rank];
        let wanted = columns.start * self.rank..columns.end * self.rank;
        math::add_columns(self.level, v, &values[wanted], &mut out[..columns.len()]);
    }
}

#[cfg(test)]
mod tests {
    use realm_gguf::TensorType;

    use super::*;

    #[test]
    fn panels_of_any_width_add_what_plain_sums_add_at_every_level() {
        let shapes = [(1, 1, 1), (4, 7, 1), (3, 16, 2), (5, 40, 3)];
        for (level, shape) in Level::available().flat_map(|level| shapes.map(|s| (level, s))) {
            let (rank, n_columns, n_matrices) = shape;
            let value = |i: usize| (i as f32 * 0.37).sin();
            let bytes = (0..rank * n_columns * n_matrices).flat_map(|i| value(i).to_le_bytes());
            let shape = [rank, n_columns, n_matrices];
            let tensor = TensorData::from_vec("b", &shape, TensorType::F32, bytes.collect());
            let panels = Panels::new(&tensor.unwrap(), level).unwrap();
            let v: Vec<f32> = (0..rank).map(|r| r as f32 - 1.5).collect();
            for matrix in 0..n_matrices {
                for first in (0..n_columns).step_by(Panels::COLUMNS) {
                    let mut out = vec![10.0; n_columns - first];
                    panels.add(matrix, &v, first..n_columns, &mut out);
                    for (column, got) in out.iter().enumerate() {
                        let row = (matrix * n_columns + first + column) * rank;
                        let sum: f32 = (0..rank).map(|r| v[r] * value(row + r)).sum();
                        assert!((got - 10.0 - sum).abs() < 1e-5, "{shape:?}: {got} {sum}");
                    }
                }
            }
        }
    }
}
