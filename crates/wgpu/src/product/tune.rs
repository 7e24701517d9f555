//! Which kernels a device is given: by what it offers and a short benchmark.

use super::Arithmetic;

/// The kernels that products prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Of few rows: while generating.
    pub vector: Arithmetic,
    /// Of many rows: while reading a prompt.
    pub matrix: Arithmetic,
    /// Sums over threads go over subgroups where there are few rows.
    pub subgroups: bool,
}

impl Default for Tuning {
    /// What runs everywhere, and all that software adapters are given.
    fn default() -> Self {
        Tuning { vector: Arithmetic::F32, matrix: Arithmetic::F32, subgroups: false }
    }
}
