//! Keeps the output from taking the place of what is read.

use std::ffi::OsStr;
use std::path::Path;

use crate::Error;

/// Fails when `output` is the input, a part of it, or the importance matrix.
pub(crate) fn check(output: &Path, input: &Path, imatrix: Option<&Path>) -> Result<(), Error> {
    let what = if is_same(output, input) || is_part(output, input) {
        "input"
    } else if imatrix.is_some_and(|imatrix| is_same(output, imatrix)) {
        "importance matrix"
    } else {
        return Ok(());
    };
    Err(Error::SameFile { path: output.to_owned(), what })
}

/// Whether both are names of one file. A file that is not there is no other's.
fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Whether `output` would be another part of a split input.
fn is_part(output: &Path, input: &Path) -> bool {
    let folder = |path: &Path| match path.parent() {
        Some(folder) if folder != Path::new("") => folder.canonicalize().ok(),
        _ => Path::new(".").canonicalize().ok(),
    };
    let series = |path: &Path| path.file_name().and_then(OsStr::to_str).and_then(series);
    match (series(output), series(input)) {
        (Some(a), Some(b)) => a == b && folder(output) == folder(input),
        _ => false,
    }
}

/// Of `NAME-00001-of-00003.gguf`, the name and the number of parts.
fn series(name: &str) -> Option<(String, String)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(part) && is_number(count)).then(|| (name.to_owned(), count.to_owned()))
}
