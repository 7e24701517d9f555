//! Tokens whose keys and values lie in the KV cache.

use realm_ir::{AdapterUse, Session};

use super::adapters::Adapters;
use super::page_table::PageTable;
use super::pages::PagePool;
use crate::error::Result;

/// The KV cache of a model: pages, and the session that they lie in.
pub(crate) struct Cache {
    pub(crate) session: Box<dyn Session>,
    pub(crate) pool: PagePool,
    /// Positions per page.
    pub(crate) page_tokens: usize,
    /// Recurrent states, for programs that have recurrent steps.
    pub(crate) states: Option<StatePool>,
}

/// Which recurrent states are free. A state holds where a sequence is after its
/// last token and nothing before it, so sequences cannot be cut.
#[derive(Debug)]
pub(crate) struct StatePool {
    /// The last one is given out next.
    free: Vec<u32>,
}

impl StatePool {
    /// A pool of `n_states` free states, `None` for no states at all.
    pub(crate) fn new(n_states: usize) -> Option<Self> {
        (n_states > 0).then(|| StatePool { free: (0..n_states as u32).rev().collect() })
    }

    /// A state, or `None` when all are held.
    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// States that nobody holds.
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Gives a state back.
    pub(crate) fn release(&mut self, state: u32) {
        self.free.push(state);
    }
}

/// One sequence: its tokens and the pages that hold their keys and values.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    pages: PageTable,
    tokens: Vec<u32>,
    state: Option<u32>,
    adapters: Adapters,
}

impl Sequence {
    /// An empty sequence that runs with `adapters`.
    pub(crate) fn with(adapters: Adapters) -> Self {
        Sequence { adapters, ..Sequence::default() }
    }

    /// What its keys and values are made with, for the batch.
    pub(crate) fn adapters(&self) -> &[AdapterUse] {
        self.adapters.as_slice()
    }

    /// Changes what it runs with; other adapters make other keys and values, so what is
    /// there is forgotten.
    pub(crate) fn set_adapters(&mut self, cache: &mut Cache, adapters: Adapters) {
        if self.adapters != adapters {
            self.truncate(cache, 0);
            self.adapters = adapters;
        }
    }

    /// Tokens whose keys and values are there.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Page numbers for the batch.
    pub(crate) fn pages(&self) -> &[u32] {
        self.pages.as_slice()
    }

    /// Its recurrent state, for the batch; of no meaning to programs without.
    pub(crate) fn state(&self) -> u32 {
        self.state.unwrap_or(0)
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
        let Cache { session, pool, page_tokens, states } = cache;
        if let Some(states) = states
            && self.state.is_none()
        {
            self.state = states.take();
            if self.state.is_none() {
                return Ok(false);
            }
        }
        self.pages.reserve(pool, session.as_mut(), *page_tokens, from, len)
    }

    /// Says that the keys and values of `tokens` have been written.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Forgets all but the first `len` tokens and frees what only they needed. A
    /// recurrent state cannot go back, so a sequence with one forgets everything.
    pub(crate) fn truncate(&mut self, cache: &mut Cache, len: usize) {
        let len = if cache.states.is_some() && len < self.len() { 0 } else { len };
        if let Some(states) = &mut cache.states
            && len == 0
            && let Some(state) = self.state.take()
        {
            states.release(state);
        }
        self.tokens.truncate(len);
        self.pages.truncate(&mut cache.pool, cache.page_tokens, self.tokens.len());
    }

    /// Forgets the page that was being written to when a batch was given up:
    /// its contents are unspecified.
    pub(crate) fn drop_unfinished_page(&mut self, cache: &mut Cache) {
        let whole_pages = match cache.states {
            Some(_) => 0,
            None => self.len() / cache.page_tokens * cache.page_tokens,
        };
        self.truncate(cache, whole_pages);
    }

    /// A second sequence with the same content, sharing its pages. `None` without
    /// a free recurrent state.
    pub(crate) fn fork(&self, cache: &mut Cache) -> Result<Option<Self>> {
        let state = match (&mut cache.states, self.state) {
            (Some(states), Some(from)) => {
                let Some(to) = states.take() else { return Ok(None) };
                if let Err(error) = cache.session.copy_state(from, to) {
                    states.release(to);
                    return Err(error.into());
                }
                Some(to)
            }
            _ => None,
        };
        let pages = self.pages.fork(&mut cache.pool, cache.page_tokens, self.len());
        let (tokens, adapters) = (self.tokens.clone(), self.adapters.clone());
        Ok(Some(Sequence { pages, tokens, state, adapters }))
    }
}
