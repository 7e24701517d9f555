//! Many byte strings in one buffer, numbered, found by content.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Byte strings numbered from 0. The hash is seeded per table, so a vocabulary
/// cannot be made to collide.
pub(crate) struct Strings {
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`.
    ends: Vec<usize>,
    by_content: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Strings {
    pub(crate) fn new() -> Self {
        Strings {
            bytes: Vec::new(),
            ends: Vec::new(),
            by_content: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all strings together.
    pub(crate) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// String `id`, which must be below `len()`.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, id)
    }

    /// The lowest number under which `content` was added.
    pub(crate) fn get(&self, content: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(content);
        self.by_content.find(hash, |&id| self.bytes(id) == content).copied()
    }

    /// Adds a string under the next number, even if it is there already.
    pub(crate) fn push(&mut self, content: &[u8]) -> u32 {
        let id = self.push_unfindable(content);
        if self.get(content).is_none() {
            let Strings { bytes, ends, by_content, hasher } = self;
            by_content.insert_unique(hasher.hash_one(content), id, |&other| {
                hasher.hash_one(slice(bytes, ends, other))
            });
        }
        id
    }

    /// Adds a string under the next number that `get` will not find.
    pub(crate) fn push_unfindable(&mut self, content: &[u8]) -> u32 {
        // A vocabulary's length is checked against u32 when it is read, and
        // merges add at most three strings for one of theirs.
        let id = u32::try_from(self.ends.len()).expect("fewer than 2^32 strings");
        self.bytes.extend_from_slice(content);
        self.ends.push(self.bytes.len());
        id
    }

    /// The number of `content`, adding it if needed.
    pub(crate) fn intern(&mut self, content: &[u8]) -> u32 {
        self.get(content).unwrap_or_else(|| self.push(content))
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let i = id as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] };
    &bytes[start..ends[i]]
}
