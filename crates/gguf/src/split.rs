//! Models split into several files, as `gguf-split` of llama.cpp writes them.
//!
//! Each part is a GGUF file of its own with `split.no` (from 0), `split.count`
//! and `split.tensors.count` (of all parts together); the first carries the
//! model's metadata. Parts are named `NAME-00001-of-00003.gguf`.

#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::header::Header;
use crate::metadata::Metadata;

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSOR_COUNT: &str = "split.tensors.count";

/// The number of parts; `None` for a model in one file.
pub(crate) fn count(metadata: &Metadata) -> Result<Option<usize>> {
    Ok(metadata.u32(COUNT)?.filter(|count| *count > 1).map(|count| count as usize))
}

/// What to call part `i` of `count` in a message.
pub(crate) fn label(i: usize, count: usize) -> String {
    format!("part {} of {count}", i + 1)
}

/// The paths of all parts, made one by one: their number is not to be trusted.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) struct PartNames<'a> {
    given: &'a Path,
    prefix: &'a str,
    suffix: String,
}

#[cfg(not(target_arch = "wasm32"))]
impl<'a> PartNames<'a> {
    /// From the path of any one part.
    pub(crate) fn of(given: &'a Path, count: usize) -> Result<Self> {
        let name = given.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let suffix = format!("-of-{count:05}.gguf");
        let prefix = name.strip_suffix(&suffix).and_then(|rest| {
            let (prefix, number) = rest.rsplit_once('-')?;
            let five_digits = number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit());
            five_digits.then_some(prefix)
        });
        let Some(prefix) = prefix else {
            return Err(Error::invalid(
                COUNT,
                format!("{count}, but the file is named \"{name}\""),
                format!("a part named NAME-00001{suffix}, beside the other parts"),
            ));
        };
        Ok(PartNames { given, prefix, suffix })
    }

    /// The path of part `i`, from 0.
    pub(crate) fn path(&self, i: usize) -> PathBuf {
        self.given.with_file_name(format!("{}-{:05}{}", self.prefix, i + 1, self.suffix))
    }
}

/// Checks that `headers` are all parts of one model, in order.
pub(crate) fn check(headers: &[Header]) -> Result<()> {
    let Some(first) = headers.first() else {
        return Err(Error::invalid("model", "no file", "one file, or all parts of a split one"));
    };
    match (count(&first.metadata)?, headers.len()) {
        (None, 1) => return Ok(()),
        (Some(count), given) if count == given => {}
        (count, given) => {
            let expected = format!("{} file(s)", count.unwrap_or(1));
            return Err(Error::invalid(COUNT, format!("{given} file(s)"), expected));
        }
    }
    for (i, header) in headers.iter().enumerate() {
        check_part(i, header, headers.len())
            .map_err(|error| error.in_part(&label(i, headers.len())))?;
    }
    let n_tensors: usize = headers.iter().map(|header| header.tensors.len()).sum();
    let declared = first.metadata.require_u64(TENSOR_COUNT)?;
    if declared != n_tensors as u64 {
        let found = format!("{n_tensors} tensors in the parts together");
        return Err(Error::invalid(TENSOR_COUNT, found, format!("{declared} tensors")));
    }
    Ok(())
}

fn check_part(i: usize, header: &Header, n_parts: usize) -> Result<()> {
    for (key, expected) in [(NO, i), (COUNT, n_parts)] {
        let found = header.metadata.require_u64(key)?;
        if found != expected as u64 {
            return Err(Error::invalid(key, found.to_string(), expected.to_string()));
        }
    }
    Ok(())
}
