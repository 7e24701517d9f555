//! Importance matrices: how much each column of a matrix matters.
//!
//! The file is a GGUF without a model, `general.type` = `imatrix`. For a matrix
//! `NAME` it has `NAME.in_sum2`, the squares of the inputs summed over tokens,
//! `[cols, n_matrices]` in F32, and `NAME.counts`, how many there were,
//! `[1, n_matrices]`. Their quotient weights the columns.
//! Source: llama.cpp `tools/imatrix/imatrix.cpp`.
//!
//! Older files (`imatrix.dat`) are read by [`dat`].

mod dat;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use realm_gguf::{Gguf, TensorType};

use crate::Error;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// The importance of the columns of many matrices.
#[derive(Clone, Debug, Default)]
pub struct Imatrix {
    by_name: HashMap<String, Entry>,
}

/// Factors as a file has them.
#[derive(Clone, Debug)]
struct Entry {
    /// Columns of a matrix, if the file says.
    cols: Option<usize>,
    factors: Vec<f32>,
}

/// Factors of one matrix, or of one matrix per expert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Importance<'a> {
    cols: usize,
    /// `[n_matrices, cols]`
    factors: &'a [f32],
}

impl<'a> Importance<'a> {
    /// The factors of one matrix.
    pub(crate) fn matrix(self, i: usize) -> &'a [f32] {
        &self.factors[i * self.cols..][..self.cols]
    }
}

impl Imatrix {
    /// Reads the file at `path`, in either format.
    ///
    /// # Errors
    ///
    /// [`Error::Gguf`] when it is not there or a damaged GGUF file; [`Error::Imatrix`]
    /// when it is no importance matrix, or has entries that are not finite or negative.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let unreadable = |error: io::Error| unreadable(path, &error);
        let mut file = File::open(path).map_err(unreadable)?;
        let mut magic = [0; 4];
        let n = file.read(&mut magic).map_err(unreadable)?;
        if magic == *b"GGUF" {
            return Self::from_gguf(&Gguf::open(path)?);
        }
        let n_bytes = file.metadata().map_err(unreadable)?.len();
        let entries = dat::read(magic[..n].chain(BufReader::new(file)), n_bytes);
        let entries = entries.map_err(|failure| match failure {
            dat::Failure::Wrong(error) => error,
            dat::Failure::System(error) => unreadable(error),
        })?;
        Ok(Self { by_name: entries.into_iter().collect() })
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

    /// Whether it knows the matrix `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The factors of the matrix `name`, checked to have this shape.
    pub(crate) fn get(
        &self,
        name: &str,
        cols: usize,
        n_matrices: usize,
    ) -> Result<Option<Importance<'_>>, Error> {
        let Some(entry) = self.by_name.get(name) else { return Ok(None) };
        let n = entry.factors.len();
        // The older format knows how many factors there are, but not for how many columns.
        if n != cols * n_matrices || entry.cols.is_some_and(|found| found != cols) {
            let found = match entry.cols {
                Some(cols) => format!("{cols} columns, {} matrices", n / cols),
                None => format!("{n} factors"),
            };
            return Err(invalid(name, format!("{cols} columns, {n_matrices} matrices"), found));
        }
        Ok(Some(Importance { cols, factors: &entry.factors }))
    }
}

fn read_entry(gguf: &Gguf, name: &str) -> Result<Entry, Error> {
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
    Entry::checked(name, Some(cols), factors)
}

impl Entry {
    /// Factors that are fit to weigh with.
    fn checked(name: &str, cols: Option<usize>, factors: Vec<f32>) -> Result<Self, Error> {
        match factors.iter().find(|factor| !factor.is_finite() || **factor < 0.0) {
            Some(bad) => Err(invalid(name, "finite numbers, not negative", bad.to_string())),
            None => Ok(Self { cols, factors }),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let path = path.to_owned();
    Error::Gguf(Box::new(match error.kind() {
        io::ErrorKind::NotFound => {
            realm_gguf::Error::NotFound { path, what: "importance matrix".into() }
        }
        kind => realm_gguf::Error::Io { path, kind, message: error.to_string() },
    }))
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
