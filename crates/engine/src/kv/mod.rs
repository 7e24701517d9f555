//! Where keys, values and recurrent states of sequences lie: who holds which page.
//!
//! The cache is a fixed number of *pages* of some positions each, and for recurrent models a
//! fixed number of *states*. Their contents lie in the session; here are their numbers. Whoever
//! needs one holds a *lease*, and the number is free again when its last lease is dropped. So
//! nobody frees anything by hand: dropping a [`Sequence`] frees all that it alone held.
//!
//! - [`lease`]: numbers that give themselves back.
//! - [`page_table`]: the pages of one sequence. Pages are shared by forks until one side
//!   writes to them (copy on write).
//! - [`sequence`]: tokens, with the pages and the state that hold them.
//!
//! Nothing here touches the session: a reservation says which pages have to be copied, and
//! whoever runs the model does so.
//!
//! What will find its place here: a map from the hash of a page's tokens (and all before it) to
//! the page, which makes the map one more holder of pages nobody uses; states taken at chosen
//! positions and kept beside these hashes; pages and states written to bytes and read back.

mod lease;
mod page_table;
mod sequence;

use std::collections::HashMap;

use lease::{Lease, LeasePool};
pub(crate) use page_table::{PageCopy, PageTable};
pub(crate) use sequence::Sequence;

/// A number of pages and of recurrent states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) pages: usize,
    pub(crate) states: usize,
}

impl Room {
    pub(crate) const NONE: Room = Room { pages: 0, states: 0 };

    /// Whether `needs` can be taken from it.
    pub(crate) fn has(&self, needs: Room) -> bool {
        needs.pages <= self.pages && needs.states <= self.states
    }

    /// What is left when `taken` is taken, which it has.
    pub(crate) fn without(&self, taken: Room) -> Room {
        Room {
            pages: self.pages.saturating_sub(taken.pages),
            states: self.states.saturating_sub(taken.states),
        }
    }
}

/// What a reservation needs more of than is free; a kind of which there is enough is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Pages it needs on top of those it has.
    pub(crate) pages: usize,
    /// States it needs on top of the one it may have.
    pub(crate) states: usize,
}

impl Missing {
    /// What of `needs` there is not enough of in `free`; `None` when there is of everything.
    pub(crate) fn of(needs: Room, free: Room) -> Option<Self> {
        let unless_free = |needs: usize, free: usize| if needs > free { needs } else { 0 };
        let missing = Missing {
            pages: unless_free(needs.pages, free.pages),
            states: unless_free(needs.states, free.states),
        };
        (missing.pages + missing.states > 0).then_some(missing)
    }
}

/// A state whose content has to become that of another before the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateCopy {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// The pages and the state of one sequence.
#[derive(Debug)]
pub(crate) struct Storage {
    pages: PageTable,
    state: Option<Lease>,
}

impl Storage {
    /// Page numbers for the batch.
    pub(crate) fn pages(&self) -> &[u32] {
        self.pages.as_slice()
    }

    /// The number of its recurrent state, for the batch; of no meaning to programs without.
    pub(crate) fn state(&self) -> u32 {
        self.state.as_ref().map_or(0, Lease::number)
    }

    /// Pages and states that it holds, alone or with others.
    pub(crate) fn holds(&self) -> Room {
        Room { pages: self.pages.as_slice().len(), states: usize::from(self.state.is_some()) }
    }

    /// Lets go of all but the first `len` positions; of the state as well when none are left.
    fn truncate(&mut self, len: usize) {
        self.pages.truncate(len);
        if len == 0 {
            self.state = None;
        }
    }
}

/// The pages and states of one model, and which of them are free.
#[derive(Debug)]
pub(crate) struct KvManager {
    pages: LeasePool,
    /// None at all for programs without recurrent steps.
    states: LeasePool,
    page_tokens: usize,
}

impl KvManager {
    /// A cache of `n_pages` free pages of `page_tokens` positions each, and `n_states` free
    /// states.
    pub(crate) fn new(n_pages: usize, page_tokens: usize, n_states: usize) -> Self {
        let (pages, states) = (LeasePool::new(n_pages as u32), LeasePool::new(n_states as u32));
        KvManager { pages, states, page_tokens }
    }

    /// Pages and states that nobody holds.
    pub(crate) fn free(&self) -> Room {
        Room { pages: self.pages.n_free(), states: self.states.n_free() }
    }

    /// All pages and states.
    pub(crate) fn total(&self) -> Room {
        Room { pages: self.pages.n_total(), states: self.states.n_total() }
    }

    /// Positions per page.
    pub(crate) fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Whether sequences have a recurrent state, and so cannot go back.
    pub(crate) fn is_recurrent(&self) -> bool {
        self.states.n_total() > 0
    }

    /// Holds nothing yet.
    pub(crate) fn storage(&self) -> Storage {
        Storage { pages: PageTable::new(self.page_tokens), state: None }
    }

    /// What a sequence of `len` tokens takes that has nothing yet.
    pub(crate) fn room_for(&self, len: usize) -> Room {
        let states = usize::from(self.is_recurrent());
        Room { pages: len.div_ceil(self.page_tokens), states }
    }

    /// What [`KvManager::reserve`] would take.
    pub(crate) fn needs(&self, storage: &Storage, from: usize, to: usize) -> Room {
        Room {
            pages: storage.pages.n_missing(from, to),
            states: usize::from(self.is_recurrent() && storage.state.is_none()),
        }
    }

    /// Makes positions `from..to` writable: takes the pages and the state that are missing, and
    /// pages in place of shared ones. The copies have to be made before the next batch.
    ///
    /// # Errors
    /// What is missing; nothing has changed then.
    pub(crate) fn reserve(
        &self,
        storage: &mut Storage,
        from: usize,
        to: usize,
    ) -> Result<Vec<PageCopy>, Missing> {
        if let Some(missing) = Missing::of(self.needs(storage, from, to), self.free()) {
            return Err(missing);
        }
        if self.is_recurrent() && storage.state.is_none() {
            storage.state = self.states.take();
        }
        Ok(storage.pages.reserve(&self.pages, from, to))
    }

    /// A second storage that shares the pages of the first `len` positions. With a recurrent
    /// state it gets one of its own, which has to be copied. `None` without a free state.
    pub(crate) fn fork(
        &self,
        storage: &Storage,
        len: usize,
    ) -> Option<(Storage, Option<StateCopy>)> {
        let (state, copy) = match &storage.state {
            None => (None, None),
            Some(from) => {
                let to = self.states.take()?;
                let copy = StateCopy { from: from.number(), to: to.number() };
                (Some(to), Some(copy))
            }
        };
        Some((Storage { pages: storage.pages.fork(len), state }, copy))
    }

    /// Checks that every page and state is either free or held by one of `storages`, which are
    /// all there are, and that each page knows how many hold it. For tests.
    ///
    /// # Errors
    /// The first thing that is not so, in words.
    pub(crate) fn check<'a>(
        &self,
        storages: impl Iterator<Item = &'a Storage>,
    ) -> Result<(), String> {
        let mut holders: HashMap<u32, usize> = HashMap::new();
        let mut states = Vec::new();
        let mut pages = Vec::new();
        for storage in storages {
            storage.pages.check()?;
            for page in storage.pages.pages() {
                pages.push(page);
                *holders.entry(page.number()).or_default() += 1;
            }
            states.extend(storage.state.as_ref().map(Lease::number));
        }
        for page in pages {
            let (number, known, counted) =
                (page.number(), page.n_holders(), holders[&page.number()]);
            if known != counted {
                return Err(format!(
                    "page {number} counts {known} holders, {counted} tables hold it"
                ));
            }
        }
        self.pages.check("page", holders.keys().copied())?;
        self.states.check("state", states.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_that_fails_says_what_is_missing_and_takes_nothing() {
        let kv = KvManager::new(3, 4, 1);
        let mut first = kv.storage();
        assert!(kv.reserve(&mut first, 0, 8).unwrap().is_empty());
        assert_eq!(kv.free(), Room { pages: 1, states: 0 });
        let mut second = kv.storage();
        assert_eq!(kv.reserve(&mut second, 0, 4), Err(Missing { pages: 0, states: 1 }));
        assert_eq!(kv.reserve(&mut second, 0, 8), Err(Missing { pages: 2, states: 1 }));
        assert_eq!(kv.reserve(&mut first, 8, 16), Err(Missing { pages: 2, states: 0 }));
        assert_eq!((second.holds(), kv.free()), (Room::NONE, Room { pages: 1, states: 0 }));
        drop(first);
        assert_eq!(kv.free(), kv.total());
        kv.reserve(&mut second, 0, 12).unwrap();
        assert_eq!(kv.free(), Room::NONE);
    }

    #[test]
    fn a_page_that_no_table_holds_and_that_is_not_free_is_found() {
        let kv = KvManager::new(3, 4, 0);
        let mut known = kv.storage();
        kv.reserve(&mut known, 0, 4).unwrap();
        kv.check([&known].into_iter()).unwrap();
        let mut lost = kv.storage();
        kv.reserve(&mut lost, 0, 4).unwrap();
        let message = kv.check([&known].into_iter()).unwrap_err();
        assert!(message.contains("page 1 is neither free nor held"), "{message}");
        let (fork, _) = kv.fork(&lost, 4).unwrap();
        let message = kv.check([&known, &lost].into_iter()).unwrap_err();
        assert!(message.contains("page 1 counts 2 holders, 1 tables"), "{message}");
        kv.check([&known, &lost, &fork].into_iter()).unwrap();
    }

    #[test]
    fn a_fork_needs_a_state_of_its_own() {
        let kv = KvManager::new(4, 4, 2);
        let mut storage = kv.storage();
        kv.reserve(&mut storage, 0, 4).unwrap();
        let (fork, copy) = kv.fork(&storage, 4).unwrap();
        assert_eq!(copy, Some(StateCopy { from: storage.state(), to: fork.state() }));
        assert!(kv.fork(&storage, 4).is_none());
        drop(fork);
        assert!(kv.fork(&storage, 4).is_some());
    }
}
