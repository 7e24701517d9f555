//! Answers that always come.

use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::mpsc::{self, Receiver};

use crate::error::{Error, Result};

/// Where the result of a command goes. One that is dropped unanswered, because
/// the model was disposed of or the command panicked, answers with that error.
pub struct Reply<T>(Option<Box<dyn FnOnce(Result<T>) + Send>>);

impl<T> Reply<T> {
    /// Calls `done` with the result, on whichever thread has it. A `done` that panics harms
    /// nobody else.
    pub fn new(done: impl FnOnce(Result<T>) + Send + 'static) -> Self {
        Reply(Some(Box::new(done)))
    }

    /// Gives the result.
    pub fn send(mut self, result: Result<T>) {
        self.answer(result);
    }

    fn answer(&mut self, result: Result<T>) {
        if let Some(done) = self.0.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| done(result)));
        }
    }
}

impl<T: 'static> Reply<T> {
    /// A reply that answers this one with what `convert` makes of its result.
    pub(crate) fn converting<U>(self, convert: impl FnOnce(U) -> T + Send + 'static) -> Reply<U> {
        Reply::new(move |result: Result<U>| self.send(result.map(convert)))
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.answer(Err(unanswered()));
    }
}

/// Why something was dropped unanswered.
pub(crate) fn unanswered() -> Error {
    match std::thread::panicking() {
        true => Error::internal("the command panicked"),
        false => Error::Disposed,
    }
}

#[cfg(not(target_arch = "wasm32"))]
/// Starts a command and waits for its result, on a thread that may be blocked.
///
/// # Errors
/// Those of the command.
pub fn wait<T: Send + 'static, Handle>(start: impl FnOnce(Reply<T>) -> Handle) -> Result<T> {
    let (sender, receiver): (_, Receiver<Result<T>>) = mpsc::channel();
    start(Reply::new(move |result| drop(sender.send(result))));
    receiver.recv().unwrap_or(Err(Error::Disposed))
}
