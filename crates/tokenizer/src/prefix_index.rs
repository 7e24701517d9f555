//! The longest token a text begins with, for some of a vocabulary's tokens.
//!
//! The ids are kept sorted by text; a search narrows a range of them byte by
//! byte. That needs no memory per byte of text, as a trie would.

use crate::vocabulary::Vocabulary;

pub(crate) struct PrefixIndex {
    sorted: Vec<u32>,
    /// Where in `sorted` the texts beginning with each byte start; 257 entries.
    first_byte: Vec<u32>,
}

impl PrefixIndex {
    pub(crate) fn new(vocabulary: &Vocabulary, mut ids: Vec<u32>) -> Self {
        ids.retain(|id| !vocabulary.texts.bytes(*id).is_empty());
        ids.sort_by_key(|id| (vocabulary.texts.bytes(*id), *id));
        let first_byte = (0..=256u32)
            .map(|byte| {
                let before = |id: &u32| u32::from(vocabulary.texts.bytes(*id)[0]) < byte;
                ids.partition_point(before) as u32
            })
            .collect();
        PrefixIndex { sorted: ids, first_byte }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The longest of the tokens that `text` begins with, and its length in bytes.
    pub(crate) fn longest(&self, vocabulary: &Vocabulary, text: &[u8]) -> Option<(u32, usize)> {
        let first = usize::from(*text.first()?);
        let (start, end) = (self.first_byte[first], self.first_byte[first + 1]);
        let mut candidates = &self.sorted[start as usize..end as usize];
        let mut best = None;
        let mut depth = 1;
        // All candidates agree with `text` up to `depth`.
        while let Some(&shortest) = candidates.first() {
            let known = vocabulary.texts.bytes(shortest).len();
            if known == depth {
                best = Some((shortest, depth));
            }
            let Some(&next) = text.get(depth) else { break };
            let byte_at = |id: u32| vocabulary.texts.bytes(id).get(depth).copied();
            let from = candidates.partition_point(|id| byte_at(*id) < Some(next));
            let to = candidates.partition_point(|id| byte_at(*id) <= Some(next));
            candidates = &candidates[from..to];
            depth += 1;
        }
        best
    }
}
