//! Where a pool's threads come from.
//!
//! Elsewhere they are the operating system's. WebAssembly cannot start any, only its
//! host can: the host lets some enter [`lend_thread`], where they wait for work.

use crate::sync::Thread;

#[cfg(not(target_family = "wasm"))]
pub(crate) use system::{available, start};

#[cfg(target_family = "wasm")]
pub(crate) use lent::{available, start};

#[cfg(target_family = "wasm")]
pub use lent::lend_thread;

/// A thread that was started.
pub(crate) trait Handle: Send + Sync {
    /// The thread, to be unparked; `None` before its work has begun.
    fn thread(&self) -> Option<&Thread>;

    /// Waits for the end of its work where that is worth waiting for.
    fn join(self: Box<Self>);
}

/// Threads of the operating system.
#[cfg(not(target_family = "wasm"))]
mod system {
    use std::io;

    use super::Handle;
    use crate::sync::{Builder, JoinHandle, Thread};

    impl Handle for JoinHandle<()> {
        fn thread(&self) -> Option<&Thread> {
            Some(JoinHandle::thread(self))
        }

        fn join(self: Box<Self>) {
            // A worker catches what its work panics with, so it ends in order.
            let _ = JoinHandle::join(*self);
        }
    }

    /// Starts a thread called `name` that does `work`.
    ///
    /// # Errors
    /// The operating system refused.
    pub(crate) fn start(
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Box<dyn Handle>> {
        Ok(Box::new(Builder::new().name(name).spawn(work)?))
    }

    /// Threads that can run at a time within the process's affinity and quota.
    pub(crate) fn available() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// Threads that the host lends.
#[cfg(any(target_family = "wasm", all(test, not(loom))))]
mod lent {
    use std::collections::VecDeque;
    use std::io;
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
    use std::thread::Thread;

    use super::Handle;

    type Work = Box<dyn FnOnce() + Send>;

    struct Lent {
        /// Threads that wait and that nobody has put work aside for.
        n_idle: usize,
        work: VecDeque<Work>,
    }

    static LENT: Mutex<Lent> = Mutex::new(Lent { n_idle: 0, work: VecDeque::new() });
    static NEW_WORK: Condvar = Condvar::new();

    fn lent() -> MutexGuard<'static, Lent> {
        LENT.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the calling thread to backends that are created from now on, for ever.
    ///
    /// A browser's page must not call it, nor must a worker that has anything else to
    /// do: it blocks. A backend takes as many threads as there are when it is created
    /// and gives them back when it is dropped.
    pub fn lend_thread() -> ! {
        lent().n_idle += 1;
        loop {
            let mut lent = lent();
            let work = loop {
                match lent.work.pop_front() {
                    Some(work) => break work,
                    None => lent = NEW_WORK.wait(lent).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(lent);
            work();
            self::lent().n_idle += 1;
        }
    }

    /// Set when the work begins.
    struct Lending(Arc<OnceLock<Thread>>);

    impl Handle for Lending {
        fn thread(&self) -> Option<&Thread> {
            self.0.get()
        }

        fn join(self: Box<Self>) {
            // The thread goes on to wait for other work.
        }
    }

    /// Gives `work` to a thread that waits.
    ///
    /// # Errors
    /// None does.
    pub(crate) fn start(
        _name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Box<dyn Handle>> {
        let mut lent = lent();
        let Some(n_idle) = lent.n_idle.checked_sub(1) else {
            return Err(io::Error::other("no more threads have been lent"));
        };
        lent.n_idle = n_idle;
        let thread = Arc::new(OnceLock::new());
        let handle = Lending(Arc::clone(&thread));
        lent.work.push_back(Box::new(move || {
            thread.get_or_init(std::thread::current);
            work();
        }));
        NEW_WORK.notify_one();
        Ok(Box::new(handle))
    }

    /// Threads that a pool could have, the caller's included.
    pub(crate) fn available() -> usize {
        1 + lent().n_idle
    }

    #[cfg(all(test, not(target_family = "wasm")))]
    mod tests {
        use std::sync::atomic::{AtomicUsize, Ordering};

        use super::*;

        #[test]
        fn lent_threads_do_what_is_given_to_them_and_come_back() {
            assert!(start(String::new(), || ()).is_err());
            for _ in 0..2 {
                std::thread::spawn(|| lend_thread());
            }
            let wait_for = |n: usize| {
                while available() != n {
                    std::thread::yield_now();
                }
            };
            let done = Arc::new(AtomicUsize::new(0));
            for round in 1..=3 {
                wait_for(3);
                let both = Arc::new(std::sync::Barrier::new(2));
                for _ in 0..2 {
                    let (done, both) = (Arc::clone(&done), Arc::clone(&both));
                    let work = move || {
                        both.wait();
                        done.fetch_add(1, Ordering::SeqCst);
                    };
                    start(String::new(), work).unwrap();
                }
                wait_for(3);
                assert_eq!(done.load(Ordering::SeqCst), 2 * round);
            }
        }
    }
}
