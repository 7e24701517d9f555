//! The keys a text begins with.
//!
//! Nodes are numbered breadth-first, so the children of one are neighbours and
//! begin where those of the node before it end. A node costs nine bytes.

/// "No key ends here".
const NONE: u32 = u32::MAX;

/// Byte strings, each with a value, found as prefixes of a text.
pub(crate) struct Trie {
    /// Where the children of each node begin, and one entry for the end.
    children: Vec<u32>,
    /// The byte that leads to each node.
    labels: Vec<u8>,
    /// The value of the key that ends at each node, or [`NONE`].
    values: Vec<u32>,
    /// The node each first byte leads to; the root's number where there is none.
    first: [u32; 256],
}

const ROOT: u32 = 0;

impl Trie {
    /// Of equal keys, the one with the lowest value counts. Empty keys never do.
    ///
    /// The keys must have fewer than 2^32 bytes together.
    pub(crate) fn new<'k>(entries: impl Iterator<Item = (&'k [u8], u32)>) -> Self {
        let mut entries: Vec<(&[u8], u32)> = entries.filter(|(key, _)| !key.is_empty()).collect();
        entries.sort_unstable();
        entries.dedup_by(|b, a| a.0 == b.0);

        let mut trie =
            Trie { children: Vec::new(), labels: vec![0], values: vec![NONE], first: [ROOT; 256] };
        // The entries below each node of the level whose children come next.
        let mut level = vec![(0, entries.len())];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next_level = Vec::new();
            for (mut start, end) in level {
                trie.children.push(trie.labels.len() as u32);
                // A key that ends at this node sorts before all longer ones.
                if entries.get(start).is_some_and(|(key, _)| key.len() == depth) {
                    start += 1;
                }
                for group in entries[start..end].chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                    let (key, value) = group[0];
                    trie.labels.push(key[depth]);
                    trie.values.push(if key.len() == depth + 1 { value } else { NONE });
                    next_level.push((start, start + group.len()));
                    start += group.len();
                }
            }
            level = next_level;
            depth += 1;
        }
        trie.children.push(trie.labels.len() as u32);
        for node in trie.children[0]..trie.children[1] {
            trie.first[usize::from(trie.labels[node as usize])] = node;
        }
        trie
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.len() == 1
    }

    /// Goes along `text` as far as some key does: the value of the key that ends
    /// after each byte, if one does.
    #[inline]
    pub(crate) fn walk(&self, text: &[u8]) -> impl Iterator<Item = Option<u32>> {
        let mut node = ROOT;
        text.iter().map_while(move |byte| {
            node = match node {
                ROOT => Some(self.first[usize::from(*byte)]).filter(|child| *child != ROOT)?,
                _ => self.child(node, *byte)?,
            };
            let value = self.values[node as usize];
            Some((value != NONE).then_some(value))
        })
    }

    /// The value of the longest key that `text` begins with, and its length.
    pub(crate) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let keys = self.walk(text).zip(1..).filter_map(|(value, len)| Some((value?, len)));
        keys.last()
    }

    #[inline]
    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        let start = self.children[node as usize];
        let labels = &self.labels[start as usize..self.children[node as usize + 1] as usize];
        let at = match labels.len() {
            0..=16 => labels.iter().position(|label| *label == byte)?,
            _ => labels.binary_search(&byte).ok()?,
        };
        Some(start + at as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_keys_match_nothing() {
        let trie = Trie::new(std::iter::empty());
        assert!(trie.is_empty());
        assert_eq!(trie.longest(b"a"), None);
        assert!(Trie::new([(&b""[..], 3)].into_iter()).is_empty());
    }

    proptest! {
        #[test]
        fn every_key_is_found_as_by_comparing_it(
            keys in prop::collection::vec("[a-cé]{0,4}", 0..40),
            text in "[a-cé]{0,8}",
        ) {
            let mut lowest = BTreeMap::new();
            for (key, value) in keys.iter().zip(0..) {
                lowest.entry(key.as_bytes()).or_insert(value);
            }
            let trie = Trie::new(keys.iter().zip(0..).map(|(key, value)| (key.as_bytes(), value)));
            let text = text.as_bytes();
            let on_the_way = |len: &usize| lowest.keys().any(|key| key.starts_with(&text[..*len]));
            let want: Vec<Option<u32>> = (1..=text.len())
                .take_while(on_the_way)
                .map(|len| lowest.get(&text[..len]).copied())
                .collect();
            prop_assert_eq!(trie.walk(text).collect::<Vec<_>>(), want);
        }
    }
}
