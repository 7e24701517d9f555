//! Which pages of the KV cache are free, and how many sequences share each.

/// Reference counts of the pages of one KV cache. It hands out numbers; the
/// keys and values themselves lie in the session. Only pages that were ever held
/// take memory here: a model without attention has pages of no bytes, as many as
/// somebody asks for.
#[derive(Debug)]
pub(crate) struct PagePool {
    /// All pages, those that were never held included.
    n_pages: usize,
    /// Sequences that hold the page, by page, as far as any was ever held.
    references: Vec<u32>,
    /// Of those, the pages without a reference; the last one is given out next.
    free: Vec<u32>,
}

impl PagePool {
    /// A pool of `n_pages` free pages.
    pub(crate) fn new(n_pages: u32) -> Self {
        PagePool { n_pages: n_pages as usize, references: Vec::new(), free: Vec::new() }
    }

    /// Pages that nobody holds.
    pub(crate) fn n_free(&self) -> usize {
        self.n_pages - self.references.len() + self.free.len()
    }

    /// All pages.
    pub(crate) fn n_pages(&self) -> usize {
        self.n_pages
    }

    /// A page with one reference, or `None` when all are held.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(page) = self.free.pop() {
            self.references[page as usize] = 1;
            return Some(page);
        }
        let page = self.references.len();
        (page < self.n_pages).then(|| self.references.push(1))?;
        Some(page as u32)
    }

    /// One more holder of `page`.
    pub(crate) fn share(&mut self, page: u32) {
        self.references[page as usize] += 1;
    }

    /// Whether somebody else holds `page` as well.
    pub(crate) fn is_shared(&self, page: u32) -> bool {
        self.references[page as usize] > 1
    }

    /// One holder less of `page`; the last one frees it.
    pub(crate) fn release(&mut self, page: u32) {
        let references = &mut self.references[page as usize];
        *references -= 1;
        if *references == 0 {
            self.free.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_page_is_free_again_only_after_its_last_holder_let_go() {
        let mut pool = PagePool::new(2);
        let page = pool.take().unwrap();
        pool.share(page);
        assert!(pool.is_shared(page));
        pool.release(page);
        assert!(!pool.is_shared(page));
        assert_eq!(pool.n_free(), 1);
        pool.release(page);
        assert_eq!(pool.n_free(), 2);
    }

    #[test]
    fn pages_that_were_never_held_take_no_memory() {
        let mut pool = PagePool::new(u32::MAX);
        assert_eq!((pool.take(), pool.n_free()), (Some(0), u32::MAX as usize - 1));
        assert!(pool.references.capacity() + pool.free.capacity() < 100);
    }

    #[test]
    fn pages_given_out_are_distinct_until_none_is_left() {
        let mut pool = PagePool::new(3);
        let mut pages: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        pages.sort_unstable();
        assert_eq!(pages, [0, 1, 2]);
        assert_eq!(pool.take(), None);
    }
}
