//! Merging neighbours, best pair first: the core of BPE and SentencePiece.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU8, Ordering};

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

/// Buffers reused from word to word.
#[derive(Default)]
pub(crate) struct Merger {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Starts a new word.
    pub(crate) fn clear(&mut self) {
        self.symbols.clear();
        self.heap.clear();
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
        for right in 1..self.symbols.len() as u32 {
            self.propose(right - 1, right, &pair);
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
                self.propose(candidate.left, right.next, &pair);
            }
            if left.previous != NONE {
                self.propose(left.previous, candidate.left, &pair);
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

/// Remembers which tokens are what their own text is tokenized to, so that the
/// usual word costs one look-up. One byte per token, filled as words are met.
pub(crate) struct WholeWords(Box<[AtomicU8]>);

const UNTRIED: u8 = 0;
const WHOLE: u8 = 1;
const SPLIT: u8 = 2;

impl WholeWords {
    pub(crate) fn new(n_tokens: usize) -> Self {
        WholeWords((0..n_tokens).map(|_| AtomicU8::new(UNTRIED)).collect())
    }

    /// Appends the tokens of a word whose text is that of token `id`;
    /// `tokenize` does it the long way when that is not known to be `id` itself.
    pub(crate) fn encode(&self, id: u32, out: &mut Vec<u32>, tokenize: impl FnOnce(&mut Vec<u32>)) {
        // Every thread that tries finds the same, so the order does not matter.
        let known = &self.0[id as usize];
        if known.load(Ordering::Relaxed) == WHOLE {
            out.push(id);
            return;
        }
        let before = out.len();
        tokenize(out);
        if known.load(Ordering::Relaxed) == UNTRIED {
            let found = if out[before..] == [id] { WHOLE } else { SPLIT };
            known.store(found, Ordering::Relaxed);
        }
    }
}

/// Longer words are tokenized in pieces, so that memory stays bounded.
const MAX_WORD_BYTES: usize = 1 << 24;

/// `text` in pieces of at most 16 MiB, cut between characters.
pub(crate) fn bounded(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(MAX_WORD_BYTES));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Where a text in which spaces are written `▁` can be cut without changing its
/// tokens: before a `▁`, unless some token has the two characters side by side.
pub(crate) struct SpaceCuts {
    /// Characters that precede a `▁` inside a token.
    joined: std::collections::HashSet<char>,
}

/// What SentencePiece writes for a space.
pub(crate) const SPACE_MARK: char = '▁';

impl SpaceCuts {
    pub(crate) fn new<'s>(texts: impl Iterator<Item = &'s str>) -> Self {
        let mut joined = std::collections::HashSet::new();
        for text in texts {
            let marks = text.match_indices(SPACE_MARK);
            joined.extend(marks.filter_map(|(at, _)| text[..at].chars().next_back()));
        }
        SpaceCuts { joined }
    }

    /// The words of `text`, in order.
    pub(crate) fn words<'t>(&self, mut text: &'t str) -> impl Iterator<Item = &'t str> {
        std::iter::from_fn(move || {
            let cut = text.match_indices(SPACE_MARK).map(|(at, _)| at).find(|at| {
                text[..*at].chars().next_back().is_some_and(|c| !self.joined.contains(&c))
            });
            let (word, rest) = text.split_at(cut.unwrap_or(text.len()));
            text = rest;
            (!word.is_empty()).then_some(word)
        })
    }
}
