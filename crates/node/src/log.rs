//! Warnings and errors that belong to no call, on their way to JS.

use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::Unknown;
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use realm_engine::log::{self, Listening, LogEntry};

use crate::error::{Result, guard};
use crate::events::{Callback, callback};

/// An entry as the object that `onEntry` gets.
#[napi(object, object_from_js = false)]
pub struct BindingLogEntry {
    pub level: &'static str,
    pub message: String,
}

impl From<LogEntry> for BindingLogEntry {
    fn from(entry: LogEntry) -> Self {
        BindingLogEntry { level: entry.level.as_str(), message: entry.message }
    }
}

/// Somebody who listens, until `stop` or until JS forgets this.
#[napi]
pub struct BindingListening {
    listening: Mutex<Option<Listening>>,
}

#[napi]
impl BindingListening {
    /// Lets the function go. Any number of calls.
    #[napi]
    pub fn stop(&self) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        drop(listening.take());
    }
}

/// Calls `onEntry` with every warning and error of the process that belongs to no call.
#[napi]
pub fn listen(on_entry: Unknown<'_>) -> Result<BindingListening> {
    guard(|| {
        let callback: Callback<BindingLogEntry, true> = callback(on_entry, "onEntry")?;
        let listening = log::listen(move |entry| {
            // Nobody is there any more where the environment is gone.
            let _ = callback.call(entry.into(), ThreadsafeFunctionCallMode::NonBlocking);
        });
        Ok(BindingListening { listening: Mutex::new(Some(listening)) })
    })
}
