//! Why a value that a model computed is no finite number.
//!
//! Weights are not looked at when they are loaded, which would read files that are mapped. When a
//! request has met such a value, and only then, they are: a weight that is NaN or infinite is the
//! file's fault, and the error names its tensor; otherwise it is a defect.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use realm_gguf::Gguf;
use realm_ir::{Coded, ErrorCode};
use realm_model::check_finite;

use super::{lock, spawn};
use crate::error::Error;
use crate::loaded::Loaded;
use crate::requests::Reply;

/// Gives `done` the error of a request that met a value that is not finite, with its cause if that
/// is a weight: on a thread of its own, since it may have to read the whole file. Less thorough when
/// `abort` is set.
pub(super) fn explain(
    loaded: Arc<Loaded>,
    abort: Arc<AtomicBool>,
    error: Arc<Error>,
    done: impl FnOnce(Arc<Error>) + Send + 'static,
) {
    let work = move || {
        let goes_on = || !abort.load(Ordering::Acquire);
        let found = catch_unwind(AssertUnwindSafe(|| cause(&loaded, &goes_on)));
        drop(loaded);
        done(found.ok().flatten().unwrap_or(error));
    };
    // A thread that cannot be started drops what waits, which answers.
    drop(spawn("realm-cause", work));
}

/// A reply that answers this one, with the cause where a value was not finite.
pub(super) fn explaining<T: Send + 'static>(
    loaded: Arc<Loaded>,
    abort: Arc<AtomicBool>,
    reply: Reply<T>,
) -> Reply<T> {
    Reply::new(move |result| match result {
        Err(error) if error.is_not_finite() => {
            let done = move |error: Arc<Error>| reply.send(Err(error.again()));
            explain(loaded, abort, Arc::new(error), done);
        }
        result => reply.send(result),
    })
}

/// What is wrong with the first weight that is not finite. What was found is kept: the next request
/// need not look again.
fn cause(loaded: &Loaded, goes_on: &dyn Fn() -> bool) -> Option<Arc<Error>> {
    let mut known = lock(&loaded.cause);
    if let Some(cause) = &*known {
        return cause.clone();
    }
    let cause = first_not_finite(&loaded.gguf, goes_on).map(Arc::new);
    if cause.is_some() || goes_on() {
        *known = Some(cause.clone());
    }
    cause
}

fn first_not_finite(gguf: &Gguf, goes_on: &dyn Fn() -> bool) -> Option<Error> {
    gguf.tensors().iter().find_map(|info| {
        let tensor = gguf.tensor(info.name())?;
        let error = check_finite(&tensor, goes_on).err()?;
        // Others say nothing about the values.
        (error.code() == ErrorCode::ModelInvalid).then(|| Error::from(error))
    })
}
