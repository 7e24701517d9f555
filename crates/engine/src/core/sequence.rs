//! Tokens whose keys and values lie in the KV cache.

use realm_ir::Session;

use super::page_table::PageTable;
use super::pages::PagePool;
use crate::error::Result;

/// The KV cache of a model: pages, and the session that they lie in.
pub(crate) struct Cache {
    pub(crate) session: Box<dyn Session>,
    pub(crate) pool: PagePool,
    /// Positions per page.
    pub(crate) page_tokens: usize,
}

/// One sequence: its tokens and the pages that hold their keys and values.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    pages: PageTable,
    tokens: Vec<u32>,
}

impl Sequence {
    /// Tokens whose keys and values are there.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Page numbers for the batch.
    pub(crate) fn pages(&self) -> &[u32] {
        self.pages.as_slice()
    }

    /// How many tokens at the beginning equal those of `prompt`.
    pub(crate) fn common_prefix(&self, prompt: &[u32]) -> usize {
        self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count()
    }

    /// Free pages needed to grow to `len` tokens.
    pub(crate) fn n_missing(&self, cache: &Cache, len: usize) -> usize {
        self.pages.n_missing(&cache.pool, cache.page_tokens, self.len(), len)
    }

    /// Makes room for `len` tokens. False, with nothing changed, without enough free pages.
    pub(crate) fn reserve(&mut self, cache: &mut Cache, len: usize) -> Result<bool> {
        let from = self.tokens.len();
        let Cache { session, pool, page_tokens } = cache;
        self.pages.reserve(pool, session.as_mut(), *page_tokens, from, len)
    }

    /// Says that the keys and values of `tokens` have been written.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Forgets all but the first `len` tokens and frees what only they needed.
    pub(crate) fn truncate(&mut self, cache: &mut Cache, len: usize) {
        self.tokens.truncate(len);
        self.pages.truncate(&mut cache.pool, cache.page_tokens, self.tokens.len());
    }

    /// Forgets the page that was being written to when a batch was given up:
    /// its contents are unspecified.
    pub(crate) fn drop_unfinished_page(&mut self, cache: &mut Cache) {
        let whole_pages = self.len() / cache.page_tokens * cache.page_tokens;
        self.truncate(cache, whole_pages);
    }

    /// A second sequence with the same content, sharing its pages.
    pub(crate) fn fork(&self, cache: &mut Cache) -> Self {
        let pages = self.pages.fork(&mut cache.pool, cache.page_tokens, self.len());
        Sequence { pages, tokens: self.tokens.clone() }
    }
}
