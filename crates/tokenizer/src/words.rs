//! Cutting a text into words whose tokens do not depend on each other, and
//! remembering the tokens of words.

use std::ops::Range;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// What SentencePiece writes for a space.
pub(crate) const SPACE_MARK: char = '▁';

/// Longer texts are tokenized in pieces, so that memory stays bounded.
const MAX_PIECE_BYTES: usize = 1 << 24;

/// `text` in pieces of at most 16 MiB, cut between characters.
pub(crate) fn bounded(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(MAX_PIECE_BYTES));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Which characters stand next to each other in some token.
///
/// Between two that never do, nothing is merged, so a text may be cut there. It
/// is a set of hashed pairs: now and then it says yes for a pair that it does not
/// hold, which does no harm.
pub(crate) struct Joints {
    bits: Vec<u64>,
    /// How many of the bits are for pairs that are not all ASCII, as a logarithm.
    log_others: u32,
}

const ASCII_BITS: usize = 128 * 128;

impl Joints {
    /// `n_bytes` is about how long the `texts` are together.
    pub(crate) fn new<'s>(texts: impl Iterator<Item = &'s str>, n_bytes: usize) -> Self {
        let log_others = n_bytes.max(1).ilog2().clamp(10, 23);
        let bits = vec![0; (ASCII_BITS + (1 << log_others)) / 64];
        let mut joints = Joints { bits, log_others };
        for text in texts {
            let mut chars = text.chars();
            let mut before = chars.next();
            for c in chars {
                let pair = before.replace(c).map(|before| joints.bit(before, c));
                pair.into_iter().for_each(|bit| joints.bits[bit / 64] |= 1 << (bit % 64));
            }
        }
        joints
    }

    /// The words of `text`, in order.
    pub(crate) fn words<'t>(&self, mut text: &'t str) -> impl Iterator<Item = &'t str> {
        std::iter::from_fn(move || {
            let mut chars = text.char_indices();
            let (_, mut before) = chars.next()?;
            let cut = chars.find_map(|(at, c)| {
                let bit = self.bit(std::mem::replace(&mut before, c), c);
                (self.bits[bit / 64] >> (bit % 64) & 1 == 0).then_some(at)
            });
            let (word, rest) = text.split_at(cut.unwrap_or(text.len()));
            text = rest;
            Some(word)
        })
    }

    #[inline]
    fn bit(&self, left: char, right: char) -> usize {
        // The mark shares its place with a character that hardly occurs.
        let ascii = |c| if c == SPACE_MARK { 0 } else { u32::from(c) };
        let (left, right) = (ascii(left), ascii(right));
        if left < 128 && right < 128 {
            return (left << 7 | right) as usize;
        }
        let mixed = (u64::from(left) << 32 | u64::from(right)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ASCII_BITS + (mixed >> (64 - self.log_others)) as usize
    }
}

/// Longer words are seldom met twice.
const MAX_CACHED_BYTES: usize = 64;
const MAX_CACHED_WORDS: usize = 1 << 16;

/// Where the tokens of each word of a text are that was met before: most words of
/// a long text are.
#[derive(Default)]
pub(crate) struct WordCache<'t> {
    tokens: HashMap<&'t str, Range<usize>>,
}

impl<'t> WordCache<'t> {
    /// Appends the tokens of `word`; `tokenize` finds them the first time. All
    /// calls must have the same `out`, and nothing may be removed from it.
    #[inline]
    pub(crate) fn encode(
        &mut self,
        word: &'t str,
        out: &mut Vec<u32>,
        tokenize: impl FnOnce(&mut Vec<u32>),
    ) {
        if word.len() > MAX_CACHED_BYTES {
            return tokenize(out);
        }
        let full = self.tokens.len() == MAX_CACHED_WORDS;
        match self.tokens.entry(word) {
            Entry::Occupied(known) => out.extend_from_within(known.get().clone()),
            Entry::Vacant(_) if full => tokenize(out),
            Entry::Vacant(new) => {
                let start = out.len();
                tokenize(out);
                new.insert(start..out.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_token_is_cut_and_nothing_is_lost(
            tokens in prop::collection::vec("[a-c▁é語]{1,3}", 1..20),
            others in prop::collection::vec("[a-d▁é語]{0,2}", 20),
        ) {
            let joints = Joints::new(tokens.iter().map(String::as_str), 100);
            let text: String = tokens.iter().zip(&others).flat_map(|(a, b)| [&**a, b]).collect();
            let words: Vec<&str> = joints.words(&text).collect();
            prop_assert_eq!(words.concat(), text);
            for token in &tokens {
                prop_assert_eq!(joints.words(token).count(), 1);
            }
        }
    }

    #[test]
    fn a_text_is_cut_where_no_token_has_both_characters() {
        let joints = Joints::new(["▁the", "▁▁", "ing", ")."].into_iter(), 16);
        let words: Vec<&str> = joints.words("▁the▁▁▁thing).▁x").collect();
        assert_eq!(words, ["▁the", "▁▁▁th", "ing", ").", "▁", "x"]);
    }

    #[test]
    fn a_full_cache_still_gives_every_word_its_tokens() {
        let words: Vec<String> = (0..MAX_CACHED_WORDS + 10).map(|n| n.to_string()).collect();
        let mut cache = WordCache::default();
        let mut out = Vec::new();
        for word in words.iter().chain(&words) {
            cache.encode(word, &mut out, |out| out.push(word.parse().unwrap()));
        }
        let numbers = 0..words.len() as u32;
        assert!(out.iter().copied().eq(numbers.clone().chain(numbers)));
    }
}
