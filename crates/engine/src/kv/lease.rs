//! Numbers of pages or states that give themselves back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which of the numbers `0..n` are free.
#[derive(Debug)]
struct FreeNumbers {
    /// Numbers that were given back; the last one is given out next.
    returned: Vec<u32>,
    /// From here on no number was ever given out.
    unused: u32,
    n_total: u32,
}

/// Gives out the numbers `0..n`, each to one holder at a time.
#[derive(Debug)]
pub(crate) struct LeasePool(Arc<Mutex<FreeNumbers>>);

/// A number that is its holder's alone, until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    number: u32,
    pool: Arc<Mutex<FreeNumbers>>,
}

/// The free numbers are whole whatever happened to the last holder of the lock.
fn lock(pool: &Mutex<FreeNumbers>) -> MutexGuard<'_, FreeNumbers> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FreeNumbers {
    fn n_free(&self) -> usize {
        self.returned.len() + (self.n_total - self.unused) as usize
    }
}

impl LeasePool {
    /// A pool of `n_total` free numbers. Takes memory as numbers are given back, none before.
    pub(crate) fn new(n_total: u32) -> Self {
        LeasePool(Arc::new(Mutex::new(FreeNumbers { returned: Vec::new(), unused: 0, n_total })))
    }

    /// Numbers that nobody holds.
    pub(crate) fn n_free(&self) -> usize {
        lock(&self.0).n_free()
    }

    /// All numbers.
    pub(crate) fn n_total(&self) -> usize {
        lock(&self.0).n_total as usize
    }

    /// A number, or `None` when all are held.
    pub(crate) fn take(&self) -> Option<Lease> {
        let mut free = lock(&self.0);
        let number = match free.returned.pop() {
            Some(number) => number,
            None if free.unused < free.n_total => {
                free.unused += 1;
                free.unused - 1
            }
            None => return None,
        };
        Some(Lease { number, pool: self.0.clone() })
    }

    /// Checks that each number is either free or among `held`, which names each once.
    ///
    /// # Errors
    /// The first number that is not; `what` is what the numbers are of.
    pub(crate) fn check(&self, what: &str, held: impl Iterator<Item = u32>) -> Result<(), String> {
        let free = lock(&self.0);
        let mut seen = HashSet::new();
        for number in &free.returned {
            if *number >= free.unused || !seen.insert(*number) {
                return Err(format!("{what} {number} is free twice"));
            }
        }
        for number in held {
            if number >= free.unused || !seen.insert(number) {
                return Err(format!("{what} {number} is held, and free or held by another"));
            }
        }
        match (0..free.unused).find(|number| !seen.contains(number)) {
            Some(number) => Err(format!("{what} {number} is neither free nor held")),
            None => Ok(()),
        }
    }
}

impl Lease {
    /// The number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.pool).returned.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_given_out_are_distinct_until_none_is_left() {
        let pool = LeasePool::new(3);
        let mut held: Vec<Lease> = std::iter::from_fn(|| pool.take()).collect();
        let mut numbers: Vec<u32> = held.iter().map(Lease::number).collect();
        numbers.sort_unstable();
        assert_eq!((numbers, pool.n_free()), (vec![0, 1, 2], 0));
        let freed = held.remove(1).number();
        assert_eq!(pool.n_free(), 1);
        assert_eq!(pool.take().map(|lease| lease.number()), Some(freed));
    }

    #[test]
    fn a_pool_of_billions_takes_no_memory_for_numbers_that_nobody_asked_for() {
        let pool = LeasePool::new(u32::MAX);
        assert_eq!(pool.n_free(), u32::MAX as usize);
        let lease = pool.take().unwrap();
        assert_eq!((lease.number(), pool.n_free()), (0, u32::MAX as usize - 1));
        pool.check("page", [0].into_iter()).unwrap();
    }
}
