//! The pages of one sequence.

use realm_ir::Session;

use super::pages::PagePool;
use crate::error::Result;

/// Pages that hold the positions of one sequence, in order: position `p` lives
/// in page `p / page_tokens`. Pages may be shared with a fork until one side
/// writes to them.
///
/// A table does not free its pages when dropped; whoever owns it calls
/// [`PageTable::truncate`] with the pool.
#[derive(Debug, Default)]
pub(crate) struct PageTable {
    pages: Vec<u32>,
}

impl PageTable {
    /// The page numbers, for the batch.
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.pages
    }

    /// Free pages that [`PageTable::reserve`] would take.
    pub(crate) fn n_missing(
        &self,
        pool: &PagePool,
        page_tokens: usize,
        from: usize,
        to: usize,
    ) -> usize {
        let wanted = to.div_ceil(page_tokens);
        let copied = self.shared_in(pool, from / page_tokens, wanted).len();
        wanted.saturating_sub(self.pages.len()) + copied
    }

    /// Places in `first..end` of the table whose page is shared.
    fn shared_in(&self, pool: &PagePool, first: usize, end: usize) -> Vec<usize> {
        let end = end.min(self.pages.len());
        (first..end).filter(|index| pool.is_shared(self.pages[*index])).collect()
    }

    /// Makes positions `from..to` writable: takes the pages that are missing and
    /// replaces shared ones by a copy. False, with nothing changed, when the
    /// pool has not enough free pages.
    pub(crate) fn reserve(
        &mut self,
        pool: &mut PagePool,
        session: &mut dyn Session,
        page_tokens: usize,
        from: usize,
        to: usize,
    ) -> Result<bool> {
        if pool.n_free() < self.n_missing(pool, page_tokens, from, to) {
            return Ok(false);
        }
        let wanted = to.div_ceil(page_tokens);
        for index in self.shared_in(pool, from / page_tokens, wanted) {
            let Some(copy) = pool.take() else { return Ok(false) };
            if let Err(error) = session.copy_page(self.pages[index], copy) {
                pool.release(copy);
                return Err(error.into());
            }
            pool.release(self.pages[index]);
            self.pages[index] = copy;
        }
        while self.pages.len() < wanted {
            let Some(page) = pool.take() else { return Ok(false) };
            self.pages.push(page);
        }
        Ok(true)
    }

    /// Lets go of the pages that positions `0..len` do not need.
    pub(crate) fn truncate(&mut self, pool: &mut PagePool, page_tokens: usize, len: usize) {
        for page in self.pages.drain(len.div_ceil(page_tokens).min(self.pages.len())..) {
            pool.release(page);
        }
    }

    /// A table that shares the pages of positions `0..len` with this one.
    pub(crate) fn fork(&self, pool: &mut PagePool, page_tokens: usize, len: usize) -> Self {
        let pages = self.pages[..len.div_ceil(page_tokens)].to_vec();
        for page in &pages {
            pool.share(*page);
        }
        PageTable { pages }
    }
}
