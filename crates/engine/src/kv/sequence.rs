//! Tokens whose keys and values lie in the KV cache.

use realm_ir::AdapterUse;

use super::{KvManager, Missing, PageCopy, Room, StateCopy, Storage};
use crate::adapter::Adapters;

/// One sequence: its tokens, where their keys and values lie, and what these were made with.
#[derive(Debug)]
pub(crate) struct Sequence {
    storage: Storage,
    tokens: Vec<u32>,
    adapters: Adapters,
}

impl Sequence {
    /// An empty sequence that runs with `adapters`.
    pub(crate) fn new(kv: &KvManager, adapters: Adapters) -> Self {
        Sequence { storage: kv.storage(), tokens: Vec::new(), adapters }
    }

    /// Where it lies, for the batch.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// What its keys and values are made with, for the batch.
    pub(crate) fn adapters(&self) -> &[AdapterUse] {
        self.adapters.as_slice()
    }

    /// Changes what it runs with; other adapters make other keys and values, so what is there
    /// is forgotten.
    pub(crate) fn set_adapters(&mut self, adapters: Adapters) {
        if self.adapters != adapters {
            self.clear();
            self.adapters = adapters;
        }
    }

    /// Tokens whose keys and values are there.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// How many tokens at the beginning equal those of `prompt`.
    pub(crate) fn common_prefix(&self, prompt: &[u32]) -> usize {
        self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count()
    }

    /// What growing to `len` tokens takes.
    pub(crate) fn needs(&self, kv: &KvManager, len: usize) -> Room {
        kv.needs(&self.storage, self.len(), len)
    }

    /// Makes room for `len` tokens, see [`KvManager::reserve`].
    pub(crate) fn reserve(&mut self, kv: &KvManager, len: usize) -> Result<Vec<PageCopy>, Missing> {
        kv.reserve(&mut self.storage, self.tokens.len(), len)
    }

    /// Says that the keys and values of `tokens` have been written.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
    }

    /// Forgets all but the first `len` tokens and frees what only they needed. A recurrent state
    /// holds where a sequence is after its last token and nothing before it, so a sequence with
    /// one forgets everything.
    pub(crate) fn truncate(&mut self, len: usize) {
        let is_recurrent = self.storage.state.is_some();
        let len = if is_recurrent && len < self.len() { 0 } else { len };
        self.tokens.truncate(len);
        self.storage.truncate(self.tokens.len());
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.truncate(0);
    }

    /// Forgets the page that was being written to when a batch was given up: its contents are
    /// unspecified, and so is a recurrent state.
    pub(crate) fn drop_unfinished_page(&mut self, kv: &KvManager) {
        match kv.is_recurrent() {
            true => self.clear(),
            false => self.truncate(self.len() / kv.page_tokens() * kv.page_tokens()),
        }
    }

    /// A second sequence with the same content, sharing its pages; its state, if there is one,
    /// has to be copied. `None` without a free state.
    pub(crate) fn fork(&self, kv: &KvManager) -> Option<(Self, Option<StateCopy>)> {
        let (storage, copy) = kv.fork(&self.storage, self.len())?;
        let (tokens, adapters) = (self.tokens.clone(), self.adapters.clone());
        Some((Sequence { storage, tokens, adapters }, copy))
    }
}
