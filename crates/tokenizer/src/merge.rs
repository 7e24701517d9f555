//! Merging neighbours, best pair first: the core of BPE and SentencePiece.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// "No symbol" and "no neighbour".
pub(crate) const NONE: u32 = u32::MAX;

/// A stretch of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    pub(crate) start: u32,
    /// Equal to `start` once merged into the symbol before it.
    pub(crate) end: u32,
    /// What the stretch is called; [`NONE`] when it has no name.
    pub(crate) id: u32,
    previous: u32,
    next: u32,
}

/// A pair that could be merged; ordered by rank, then by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    /// Where the right one ended when the pair was found.
    end: u32,
    /// What the merged symbol is called.
    id: u32,
}

/// Up to how many symbols looking through all pairs is quicker than a heap.
const SHORT: usize = 32;

/// Buffers reused from word to word.
#[derive(Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    /// Of a long word: the pairs that could be merged.
    heap: BinaryHeap<Reverse<Candidate>>,
    /// Of a short word: rank and union of each symbol and the one behind it.
    pairs: Vec<(u32, u32)>,
}

impl Merger {
    /// Starts a new word.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
    }

    /// Appends the next `len` bytes of the word as one symbol.
    pub(crate) fn push(&mut self, len: usize, id: u32) {
        let index = self.symbols.len() as u32;
        let start = self.symbols.last().map_or(0, |last| last.end);
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        let previous = index.checked_sub(1).unwrap_or(NONE);
        let end = start + len as u32;
        self.symbols.push(Symbol { start, end, id, previous, next: NONE });
    }

    /// Merges until no pair is left. `pair` gives the rank of two neighbours
    /// (lowest first; leftmost among equals) and the id of their union.
    ///
    /// Takes O(n log n) for n symbols, whatever the word.
    pub(crate) fn merge(&mut self, pair: impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        if self.symbols.len() <= SHORT {
            self.merge_short(&pair);
        } else {
            self.merge_long(&pair);
        }
    }

    fn merge_short(&mut self, pair: &impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        let Merger { symbols, pairs, .. } = self;
        let pair = |left: &Symbol, right: &Symbol| pair(left, right).unwrap_or((NONE, NONE));
        pairs.clear();
        pairs.extend(symbols.windows(2).map(|two| pair(&two[0], &two[1])));
        // The first of those with the lowest rank.
        while let Some((i, &(rank, id))) =
            pairs.iter().enumerate().min_by_key(|(_, (rank, _))| rank)
            && rank != NONE
        {
            symbols[i] = Symbol { end: symbols[i + 1].end, id, ..symbols[i] };
            symbols.remove(i + 1);
            pairs.remove(i);
            if let Some(after) = pairs.get_mut(i) {
                *after = pair(&symbols[i], &symbols[i + 1]);
            }
            if let Some(before) = i.checked_sub(1) {
                pairs[before] = pair(&symbols[before], &symbols[i]);
            }
        }
    }

    fn merge_long(&mut self, pair: &impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>) {
        self.heap.clear();
        for right in 1..self.symbols.len() as u32 {
            self.propose(right - 1, right, pair);
        }
        while let Some(Reverse(candidate)) = self.heap.pop() {
            let left = self.symbols[candidate.left as usize];
            if left.start == left.end || left.next == NONE {
                continue;
            }
            let right = self.symbols[left.next as usize];
            if right.end != candidate.end {
                continue; // one of the two has grown since
            }
            self.symbols[left.next as usize].start = right.end;
            let merged = &mut self.symbols[candidate.left as usize];
            *merged = Symbol { end: right.end, id: candidate.id, next: right.next, ..left };
            if right.next != NONE {
                self.symbols[right.next as usize].previous = candidate.left;
                self.propose(candidate.left, right.next, pair);
            }
            if left.previous != NONE {
                self.propose(left.previous, candidate.left, pair);
            }
        }
    }

    /// What is left, in order.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.start != symbol.end)
    }

    fn propose(
        &mut self,
        left: u32,
        right: u32,
        pair: &impl Fn(&Symbol, &Symbol) -> Option<(u32, u32)>,
    ) {
        let right = &self.symbols[right as usize];
        if let Some((rank, id)) = pair(&self.symbols[left as usize], right) {
            self.heap.push(Reverse(Candidate { rank, left, end: right.end, id }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn short_and_long_words_are_merged_alike(
            letters in prop::collection::vec(0u32..4, 0..60),
            rules in prop::collection::vec((0u32..8, 0u32..8, 0u32..8, 0u32..20), 0..20),
        ) {
            let pair = |left: &Symbol, right: &Symbol| {
                let rule = rules.iter().find(|rule| (rule.0, rule.1) == (left.id, right.id));
                rule.map(|&(_, _, id, rank)| (rank, id))
            };
            let merged = |short: bool| {
                let mut merger = Merger::default();
                letters.iter().for_each(|letter| merger.push(1, *letter));
                if short { merger.merge_short(&pair) } else { merger.merge_long(&pair) }
                merger.symbols().map(|s| (s.start, s.end, s.id)).collect::<Vec<_>>()
            };
            prop_assert_eq!(merged(true), merged(false));
        }
    }
}
