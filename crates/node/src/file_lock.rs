//! Locks on files, which processes share. The operating system ends them with their owner, so that
//! a process that was killed blocks nobody.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

use crate::args;
use crate::error::{Result, guard, unwritable};

/// A lock that is held, until `release` or until nobody holds the object.
#[napi]
pub struct FileLock {
    file: Mutex<Option<File>>,
}

#[napi]
impl FileLock {
    /// Gives the lock back. Any number of calls.
    #[napi]
    pub fn release(&self) {
        drop(self.file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Takes an exclusive lock on the file at `path`, which is made if it is not there; null while
/// somebody else has it. Where the file system knows no locks, everybody gets one.
#[napi]
pub fn try_lock_file(path: Unknown<'_>) -> Result<Option<FileLock>> {
    guard(|| {
        let path = args::string(path, "path")?;
        let failed = |error: std::io::Error| unwritable(format!("{path}: {error}"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock { file: Mutex::new(Some(file)) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                Ok(Some(FileLock { file: Mutex::new(None) }))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    })
}
