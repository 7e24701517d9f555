//! A value that a callback gives and a future waits for.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

struct State<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// Set once, awaited once.
pub(crate) struct Signal<T>(Arc<Mutex<State<T>>>);

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Signal(Arc::clone(&self.0))
    }
}

impl<T> Signal<T> {
    pub fn new() -> Self {
        Signal(Arc::new(Mutex::new(State { value: None, waker: None })))
    }

    /// Gives the value and wakes whoever waits.
    pub fn set(&self, value: T) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.value = Some(value);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the value.
    pub async fn wait(self) -> T {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match state.value.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
