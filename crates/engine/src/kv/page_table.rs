//! The pages of one sequence.

use std::sync::Arc;

use super::lease::{Lease, LeasePool};

/// A page that somebody holds. A clone holds it as well; the last one to be dropped frees it.
#[derive(Clone, Debug)]
pub(crate) struct Page(Arc<Lease>);

impl Page {
    pub(crate) fn number(&self) -> u32 {
        self.0.number()
    }

    /// How many hold it.
    pub(crate) fn n_holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

/// Keys and values of all layers that have to be copied to another page before the next batch.
/// The page they come from is held until then.
#[derive(Debug)]
pub(crate) struct PageCopy {
    pub(crate) from: Page,
    /// The number of the page in whose place it is.
    pub(crate) to: u32,
}

impl PartialEq for PageCopy {
    fn eq(&self, other: &Self) -> bool {
        (self.from.number(), self.to) == (other.from.number(), other.to)
    }
}

/// Pages that hold the positions of one sequence, in order: position `p` lives in page
/// `p / page_tokens`. Pages may be shared with a fork until one side writes to them.
#[derive(Debug)]
pub(crate) struct PageTable {
    page_tokens: usize,
    pages: Vec<Page>,
    /// The numbers of `pages`, in the form that batches want.
    numbers: Vec<u32>,
}

impl PageTable {
    /// No pages, of `page_tokens` positions each.
    pub(crate) fn new(page_tokens: usize) -> Self {
        PageTable { page_tokens, pages: Vec::new(), numbers: Vec::new() }
    }

    /// The page numbers, for the batch.
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.numbers
    }

    pub(crate) fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Free pages that [`PageTable::reserve`] would take.
    pub(crate) fn n_missing(&self, from: usize, to: usize) -> usize {
        let wanted = to.div_ceil(self.page_tokens);
        let n_copied = self.shared(from, to).count();
        wanted.saturating_sub(self.pages.len()) + n_copied
    }

    /// Places in the table of pages with positions in `from..to` that others hold as well.
    fn shared(&self, from: usize, to: usize) -> impl Iterator<Item = usize> {
        let end = to.div_ceil(self.page_tokens).min(self.pages.len());
        (from / self.page_tokens..end).filter(|index| self.pages[*index].n_holders() > 1)
    }

    /// Makes positions `from..to` writable: takes the pages that are missing and others in place
    /// of shared ones, which have to be copied. The pool must have [`PageTable::n_missing`] pages.
    pub(crate) fn reserve(&mut self, pool: &LeasePool, from: usize, to: usize) -> Vec<PageCopy> {
        let take = || Page(Arc::new(pool.take().expect("the caller has counted")));
        let shared: Vec<usize> = self.shared(from, to).collect();
        let mut copies = Vec::new();
        for index in shared {
            let page = take();
            let to = page.number();
            self.numbers[index] = to;
            let from = std::mem::replace(&mut self.pages[index], page);
            copies.push(PageCopy { from, to });
        }
        while self.pages.len() < to.div_ceil(self.page_tokens) {
            let page = take();
            self.numbers.push(page.number());
            self.pages.push(page);
        }
        copies
    }

    /// Lets go of the pages that positions `0..len` do not need.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(self.page_tokens));
        self.numbers.truncate(self.pages.len());
    }

    /// A table that shares the pages of positions `0..len` with this one.
    pub(crate) fn fork(&self, len: usize) -> Self {
        let n_pages = len.div_ceil(self.page_tokens);
        PageTable {
            page_tokens: self.page_tokens,
            pages: self.pages[..n_pages].to_vec(),
            numbers: self.numbers[..n_pages].to_vec(),
        }
    }

    /// Checks that the numbers are those of the pages. For tests.
    pub(crate) fn check(&self) -> Result<(), String> {
        let numbers: Vec<u32> = self.pages.iter().map(Page::number).collect();
        match numbers == self.numbers {
            true => Ok(()),
            false => Err(format!("a table names {:?} and holds {numbers:?}", self.numbers)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_page_is_free_again_only_after_its_last_holder_let_go() {
        let pool = LeasePool::new(2);
        let mut table = PageTable::new(4);
        table.reserve(&pool, 0, 4);
        let fork = table.fork(4);
        assert_eq!((table.pages()[0].n_holders(), pool.n_free()), (2, 1));
        table.truncate(0);
        assert_eq!((fork.pages()[0].n_holders(), pool.n_free()), (1, 1));
        drop(fork);
        assert_eq!(pool.n_free(), 2);
    }

    #[test]
    fn a_shared_page_is_copied_for_whoever_writes_to_it_first() {
        let pool = LeasePool::new(4);
        let mut table = PageTable::new(4);
        table.reserve(&pool, 0, 7);
        let mut fork = table.fork(7);
        assert_eq!(table.n_missing(7, 9), 2, "a copy of the second page, and a third");
        let copies = table.reserve(&pool, 7, 9);
        let copied: Vec<_> = copies.iter().map(|copy| (copy.from.number(), copy.to)).collect();
        assert_eq!(copied, [(1, 2)]);
        assert_eq!((table.as_slice(), fork.as_slice()), (&[0, 2, 3][..], &[0, 1][..]));
        drop(copies);
        assert!(fork.reserve(&pool, 7, 8).is_empty(), "it has that page to itself now");
        table.check().unwrap();
    }
}
