//! Many byte strings in one buffer, numbered, found by content.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Byte strings numbered from 0. The hash is seeded per table, so a vocabulary
/// cannot be made to collide.
#[derive(Clone)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`.
    ends: Vec<usize>,
    by_content: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// No string was pushed twice.
    all_differ: bool,
}

impl Strings {
    pub(crate) fn new() -> Self {
        Strings::with_capacity(0, 0)
    }

    /// With room for `n` strings of `n_bytes` bytes together.
    pub(crate) fn with_capacity(n: usize, n_bytes: usize) -> Self {
        Strings {
            bytes: Vec::with_capacity(n_bytes),
            ends: Vec::with_capacity(n),
            by_content: HashTable::with_capacity(n),
            hasher: DefaultHashBuilder::default(),
            all_differ: true,
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
        let hash = self.hasher.hash_one(content);
        let id = self.push_unfindable(content);
        let Strings { bytes, ends, by_content, hasher, all_differ } = self;
        let string = |id: &u32| slice(bytes, ends, *id);
        match by_content.entry(hash, |id| string(id) == content, |id| hasher.hash_one(string(id))) {
            Entry::Occupied(_) => *all_differ = false,
            Entry::Vacant(new) => {
                new.insert(id);
            }
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

    /// As [`intern`](Self::intern), and quicker when it is `guess` or the next one.
    pub(crate) fn intern_near(&mut self, content: &[u8], guess: u32) -> u32 {
        let n_strings = self.len();
        let mut near = (guess..=guess.saturating_add(1)).filter(|id| (*id as usize) < n_strings);
        let found = near.find(|id| !content.is_empty() && self.bytes(*id) == content);
        match found {
            Some(id) if self.all_differ => id,
            _ => self.intern(content),
        }
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let i = id as usize;
    let start = if i == 0 { 0 } else { ends[i - 1] };
    &bytes[start..ends[i]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_strings_is_found() {
        let mut strings = Strings::new();
        for text in ["a", "b", "a", "c", "b"] {
            strings.push(text.as_bytes());
        }
        for guess in 0..7 {
            let found = ["a", "b", "c"].map(|text| strings.intern_near(text.as_bytes(), guess));
            assert_eq!(found, [0, 1, 3]);
        }
        assert_eq!(strings.intern_near(b"d", 4), 5);
    }

    #[test]
    fn what_is_not_to_be_found_is_not_guessed() {
        let mut strings = Strings::new();
        strings.push(b"a");
        strings.push_unfindable(b"");
        assert_eq!(strings.get(b""), None);
        assert_eq!(strings.intern_near(b"a", 1), 0);
        assert_eq!(strings.intern_near(b"", 0), 2);
    }
}
