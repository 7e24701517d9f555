//! The file that is written: it has a temporary name beside its own until it is whole.
//!
//! Whoever writes one holds a lock on it, which ends with the process however that ends. So the
//! next run to the same output can tell what nobody writes any more, and removes it.

use std::ffi::OsStr;
use std::fs::{self, File, FileType, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf, is_separator};

use crate::Error;

/// Links that are followed, one to the next.
const MAX_LINKS: usize = 40;
/// Beginnings, each of which another run can take for abandoned in the moment before it is locked.
const ATTEMPTS: usize = 8;
/// How temporary names end.
const SUFFIX: &str = ".partial";
/// Digits of the number in front of it.
const DIGITS: usize = 16;

/// Where a file called `path` is written: the end of symbolic links, which stay as they are.
///
/// # Errors
/// [`Error::Io`] where something stands that is no regular file. A file beside it would take its
/// place, and with it a device or a pipe away from everybody.
pub(crate) fn target(path: &Path) -> Result<PathBuf, Error> {
    follow(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&path).map(|metadata| metadata.file_type()) {
            Ok(ty) if ty.is_symlink() => {
                let link = fs::read_link(&path)?;
                path = folder(&path).join(link);
            }
            Ok(ty) if ty.is_file() => return Ok(path),
            Ok(ty) => {
                return Err(io::Error::other(format!("not a regular file, but {}", kind(ty))));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) if path.as_os_str().to_string_lossy().ends_with(is_separator) => {
                return Err(io::Error::other("not a regular file, but the name of a directory"));
            }
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

#[cfg(unix)]
fn kind(ty: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match ty {
        _ if ty.is_dir() => "a directory",
        _ if ty.is_char_device() || ty.is_block_device() => "a device",
        _ if ty.is_fifo() => "a pipe",
        _ if ty.is_socket() => "a socket",
        _ => "something else",
    }
}

#[cfg(not(unix))]
fn kind(ty: FileType) -> &'static str {
    if ty.is_dir() { "a directory" } else { "something else" }
}

/// A file that is being written. It is removed when this is dropped before the end.
pub(crate) struct Output {
    path: PathBuf,
    temporary: PathBuf,
    /// `None` at the end.
    file: Option<BufWriter<File>>,
}

impl Output {
    /// Starts the file that will be called `path`, a [`target`].
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        remove_abandoned(path);
        for _ in 0..ATTEMPTS {
            let temporary = path.with_file_name(temporary_name(path));
            let failed = |source| Error::Io { path: temporary.clone(), source };
            let file = File::create_new(&temporary).map_err(failed)?;
            // Before the lock was there, another run may have taken the file for abandoned.
            let is_ours = !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
                && fs::exists(&temporary).map_err(failed)?;
            if is_ours {
                let file = Some(BufWriter::with_capacity(1 << 20, file));
                return Ok(Output { path: path.to_owned(), temporary, file });
            }
        }
        let source = io::Error::other("others remove what is begun here");
        Err(Error::Io { path: path.to_owned(), source })
    }

    /// Appends.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let file = self.file.as_mut().expect("only `finish` closes the file");
        file.write_all(bytes).map_err(|source| Error::Io { path: self.temporary.clone(), source })
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let mut file = self.file.take().expect("only `finish` closes the file");
        // Locked until it has its name: without, another run could remove it.
        let named = file
            .flush()
            .and_then(|()| file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        named.map_err(|source| {
            self.file = Some(file);
            Error::Io { path: self.path.clone(), source }
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        // Closed, without what has not been written yet; if the rest fails, nothing can be done.
        drop(file.into_parts());
        fs::remove_file(&self.temporary).ok();
    }
}

/// A name beside `path` that nobody else has.
fn temporary_name(path: &Path) -> std::ffi::OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let number = RandomState::new().hash_one(std::process::id());
    name.push(format!(".{number:0DIGITS$x}{SUFFIX}"));
    name
}

/// Whether `name` may be that of an unfinished file of `path`.
fn is_temporary_name(name: &OsStr, path: &Path) -> bool {
    let own = path.file_name().unwrap_or_default().as_encoded_bytes();
    let rest = name.as_encoded_bytes().strip_prefix(own);
    let number = rest
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    number.is_some_and(|number| {
        number.len() == DIGITS && number.iter().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Removes what runs left unfinished that were ended from outside. What cannot be looked at or
/// locked stays.
fn remove_abandoned(path: &Path) {
    let folder = match folder(path) {
        folder if folder == Path::new("") => Path::new("."),
        folder => folder,
    };
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|ty| ty.is_file());
        if !is_file || !is_temporary_name(&entry.file_name(), path) {
            continue;
        }
        let file = File::options().write(true).open(entry.path());
        if file.as_ref().is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(entry.path()).ok();
        }
    }
}
