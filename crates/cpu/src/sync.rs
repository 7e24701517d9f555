//! What the threads of a pool share, from the standard library.
//!
//! With `--cfg loom` the tests get loom's in its place, which try every order in which the
//! threads can come to it, and every value that a load may see (`pool/interleavings.rs`).

#[cfg(not(all(test, loom)))]
pub(crate) use standard::*;

#[cfg(all(test, loom))]
pub(crate) use modelled::*;

#[cfg(not(all(test, loom)))]
mod standard {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
    #[cfg(not(target_family = "wasm"))]
    pub(crate) use std::thread::{Builder, JoinHandle};
    pub(crate) use std::thread::{Thread, current, park};

    /// [`std::cell::UnsafeCell`], which says when an access begins and ends.
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

/// Here a thread is blocked where it parks and nowhere else: in loom an `unpark` that comes late
/// would also end the wait for a lock or for a thread's end.
#[cfg(all(test, loom))]
mod modelled {
    use std::io;
    use std::marker::PhantomData;
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, LockResult, TryLockError};

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::hint::spin_loop;
    use loom::sync::MutexGuard;
    use loom::sync::atomic::fence;
    use loom::thread::yield_now;
    pub(crate) use loom::thread::{Thread, current, park};

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            loop {
                match self.0.try_lock() {
                    Ok(guard) => return Ok(guard),
                    Err(TryLockError::Poisoned(error)) => return Err(error),
                    Err(TryLockError::WouldBlock) => yield_now(),
                }
            }
        }

        pub fn into_inner(self) -> LockResult<T> {
            self.0.into_inner()
        }
    }

    pub(crate) struct Builder(loom::thread::Builder);

    impl Builder {
        pub fn new() -> Self {
            Builder(loom::thread::Builder::new())
        }

        pub fn name(self, name: String) -> Self {
            Builder(self.0.name(name))
        }

        pub fn spawn(self, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
            let has_ended = Arc::new(AtomicBool::new(false));
            let end = Arc::clone(&has_ended);
            let handle = self.0.spawn(move || {
                work();
                end.store(true, Ordering::Release);
            })?;
            Ok(JoinHandle { handle, has_ended, result: PhantomData })
        }
    }

    pub(crate) struct JoinHandle<T> {
        handle: loom::thread::JoinHandle<()>,
        has_ended: Arc<AtomicBool>,
        result: PhantomData<T>,
    }

    impl JoinHandle<()> {
        pub fn thread(&self) -> &Thread {
            self.handle.thread()
        }

        pub fn join(self) -> std::thread::Result<()> {
            while !self.has_ended.load(Ordering::Acquire) {
                yield_now();
            }
            self.handle.join()
        }
    }

    /// Changes a value. loom takes `SeqCst` accesses for `AcqRel` ones, but knows the fence: with
    /// one behind each of these changes no load comes before the change of the same thread.
    fn change<T>(order: Ordering, change: impl FnOnce() -> T) -> T {
        let result = change();
        if order == Ordering::SeqCst {
            fence(order);
        }
        result
    }

    macro_rules! atomic {
        ($name:ident, $value:ty, $($change:ident),*) => {
            pub(crate) struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(value: $value) -> Self {
                    $name(loom::sync::atomic::$name::new(value))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.0.load(order)
                }

                $(pub fn $change(&self, value: $value, order: Ordering) -> $value {
                    change(order, || self.0.$change(value, order))
                })*
            }
        };
    }

    atomic!(AtomicBool, bool, swap);
    atomic!(AtomicUsize, usize, fetch_add, fetch_sub, fetch_or);

    impl AtomicBool {
        pub fn store(&self, value: bool, order: Ordering) {
            change(order, || self.0.store(value, order));
        }
    }

    impl AtomicUsize {
        pub fn fetch_update(
            &self,
            set: Ordering,
            get: Ordering,
            next: impl FnMut(usize) -> Option<usize>,
        ) -> Result<usize, usize> {
            change(set, || self.0.fetch_update(set, get, next))
        }
    }
}
