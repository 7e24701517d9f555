//! Importance matrices: how much each column of a matrix matters.
//!
//! The file is a GGUF without a model, `general.type` = `imatrix`. For a matrix
//! `NAME` it has `NAME.in_sum2`, the squares of the inputs summed over tokens,
//! `[cols, n_matrices]` in F32, and `NAME.counts`, how many there were,
//! `[1, n_matrices]`. Their quotient weights the columns.
//! Source: llama.cpp `tools/imatrix/imatrix.cpp`.

use std::collections::HashMap;
use std::path::Path;

use realm_gguf::{Gguf, TensorType};

use crate::Error;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// The importance of the columns of many matrices.
#[derive(Clone, Debug, Default)]
pub struct Imatrix {
    by_name: HashMap<String, Importance>,
}

/// Factors of one matrix, or of one matrix per expert.
#[derive(Clone, Debug)]
pub(crate) struct Importance {
    cols: usize,
    /// `[n_matrices, cols]`
    factors: Vec<f32>,
}

impl Importance {
    /// The factors of one matrix.
    pub(crate) fn matrix(&self, i: usize) -> &[f32] {
        &self.factors[i * self.cols..][..self.cols]
    }
}

impl Imatrix {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Gguf`] when it is no GGUF file; [`Error::Imatrix`] when it is no
    /// importance matrix, or has entries that are not finite or negative.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_gguf(&Gguf::open(path)?)
    }

    /// Reads an importance matrix that has been opened.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        const TYPE_KEY: &str = "general.type";
        let found = gguf.metadata().str(TYPE_KEY)?.unwrap_or("nothing");
        if found != "imatrix" {
            return Err(invalid(TYPE_KEY, "imatrix", found));
        }
        let mut by_name = HashMap::new();
        for tensor in gguf.tensors() {
            if let Some(name) = tensor.name().strip_suffix(SUMS) {
                by_name.insert(name.to_owned(), read_entry(gguf, name)?);
            }
        }
        Ok(Self { by_name })
    }

    /// How many matrices it knows.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The factors of the matrix `name`, checked to have this shape.
    pub(crate) fn get(
        &self,
        name: &str,
        cols: usize,
        n_matrices: usize,
    ) -> Result<Option<&Importance>, Error> {
        let Some(importance) = self.by_name.get(name) else { return Ok(None) };
        let found = importance.factors.len() / importance.cols;
        if importance.cols != cols || found != n_matrices {
            let found = format!("{} columns, {found} matrices", importance.cols);
            return Err(invalid(name, format!("{cols} columns, {n_matrices} matrices"), found));
        }
        Ok(Some(importance))
    }
}

fn read_entry(gguf: &Gguf, name: &str) -> Result<Importance, Error> {
    let (cols, sums) = values(gguf, &format!("{name}{SUMS}"))?;
    let (_, counts) = values(gguf, &format!("{name}{COUNTS}"))?;
    if sums.len() != cols * counts.len() {
        let expected = format!("{} counts", sums.len() / cols);
        return Err(invalid(name, expected, format!("{} counts", counts.len())));
    }
    let mut factors = Vec::with_capacity(sums.len());
    for (sums, count) in sums.chunks_exact(cols).zip(&counts) {
        // An expert that was never asked: all columns alike.
        factors.extend(sums.iter().map(|sum| if *count > 0.0 { sum / count } else { 1.0 }));
    }
    if let Some(bad) = factors.iter().find(|factor| !factor.is_finite() || **factor < 0.0) {
        return Err(invalid(name, "finite numbers, not negative", bad.to_string()));
    }
    Ok(Importance { cols, factors })
}

/// Row length and values of an F32 tensor.
fn values(gguf: &Gguf, name: &str) -> Result<(usize, Vec<f32>), Error> {
    let tensor = gguf.require_tensor(name)?;
    if tensor.ty() != TensorType::F32 {
        return Err(invalid(name, "F32", tensor.ty().name()));
    }
    let (values, _) = tensor.bytes().as_chunks::<4>();
    Ok((tensor.shape()[0], values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
}

fn invalid(
    what: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Error {
    Error::Imatrix { what: what.into(), expected: expected.into(), found: found.into() }
}
