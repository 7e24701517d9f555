//! Cuts special tokens out of a text before it is tokenized.
//!
//! Longer tokens are cut out first, then the leftmost, each only from what is
//! left: the order of `tokenizer_st_partition` in llama.cpp.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use realm_gguf::Metadata;

use crate::error::Result;
use crate::trie::Trie;
use crate::vocabulary::{TokenKind, Vocabulary};

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// Finds special tokens in texts.
pub(crate) struct Partition {
    /// All that are cut out when special tokens are parsed.
    all: Trie,
    /// Those that are cut out in any case.
    user_defined: Trie,
    /// Ascending ids that swallow white space before them.
    strip_left: Vec<u32>,
    /// Ascending ids that swallow white space after them.
    strip_right: Vec<u32>,
}

impl Partition {
    pub(crate) fn new(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<Self> {
        let (strip_left, strip_right) = stripping(vocabulary, metadata)?;
        Ok(Partition {
            all: Trie::new(vocabulary.entries_of(TokenKind::is_cut_out)),
            user_defined: user_defined(vocabulary),
            strip_left,
            strip_right,
        })
    }

    /// The parts of `text`, in order; texts are never empty.
    pub(crate) fn fragments<'t>(&self, text: &'t str, parse_special: bool) -> Vec<Fragment<'t>> {
        let index = if parse_special { &self.all } else { &self.user_defined };
        let mut fragments = Vec::new();
        let mut start = 0;
        let mut strip = false;
        for (at, len, id) in cuts(index, text.as_bytes()) {
            let mut before = &text[start..at];
            if strip {
                before = before.trim_start_matches(is_c_space);
            }
            if self.strip_left.binary_search(&id).is_ok() {
                before = before.trim_end_matches(is_c_space);
            }
            if !before.is_empty() {
                fragments.push(Fragment::Text(before));
            }
            fragments.push(Fragment::Token(id));
            strip = self.strip_right.binary_search(&id).is_ok();
            start = at + len;
        }
        let mut rest = &text[start..];
        if strip {
            rest = rest.trim_start_matches(is_c_space);
        }
        if !rest.is_empty() {
            fragments.push(Fragment::Text(rest));
        }
        fragments
    }
}

/// The tokens found in every text before it is tokenized.
pub(crate) fn user_defined(vocabulary: &Vocabulary) -> Trie {
    Trie::new(vocabulary.entries_of(|kind| kind == TokenKind::UserDefined))
}

/// Where tokens of the index are cut out: position, length, id, by position.
fn cuts(index: &Trie, text: &[u8]) -> Vec<(usize, usize, u32)> {
    let mut cuts = Vec::new();
    if index.is_empty() {
        return cuts;
    }
    // The longest token at each position. Where an earlier cut shortens the
    // room, a position comes back with the longest token that still fits.
    let mut candidates: BinaryHeap<(usize, Reverse<usize>, u32)> = (0..text.len())
        .filter_map(|at| {
            let (id, len) = index.longest(&text[at..])?;
            Some((len, Reverse(at), id))
        })
        .collect();
    if candidates.is_empty() {
        return cuts;
    }
    let mut taken = vec![false; text.len()];
    while let Some((len, Reverse(at), id)) = candidates.pop() {
        let room = taken[at..at + len].iter().position(|t| *t).unwrap_or(len);
        if room == len {
            taken[at..at + len].fill(true);
            cuts.push((at, len, id));
        } else if let Some((id, len)) = index.longest(&text[at..at + room]) {
            candidates.push((len, Reverse(at), id));
        }
    }
    cuts.sort_unstable();
    cuts
}

/// White space of C's `isspace` in the "C" locale.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

/// The tokens that swallow white space to their left and right. GGUF does not
/// say, so llama.cpp knows the models by name, and so do we.
fn stripping(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<(Vec<u32>, Vec<u32>)> {
    let lower =
        |key| -> Result<String> { Ok(metadata.str(key)?.unwrap_or_default().to_lowercase()) };
    let name = lower("general.name")?;
    let pre_tokenizer = lower("tokenizer.ggml.pre")?;
    let architecture = lower("general.architecture")?;
    let one = |text| vocabulary.id(text).into_iter().collect();

    if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|n| pre_tokenizer.contains(n))
        || ["nomic-bert-moe", "jina-bert-v3"].iter().any(|n| architecture.contains(n))
    {
        return Ok((one("<mask>"), Vec::new()));
    }
    if name.contains("phi-3") || name.contains("phi3") {
        let not = ["<unk>", "<s>", "<|endoftext|>"].map(|text| vocabulary.id(text));
        let specials = vocabulary.entries_of(TokenKind::is_cut_out).map(|(_, id)| id);
        let mut right: Vec<u32> = specials.chain(vocabulary.id("</s>")).collect();
        right.retain(|id| !not.contains(&Some(*id)));
        right.sort_unstable();
        return Ok((Vec::new(), right));
    }
    if name.contains("modern-bert") {
        return Ok((one("[MASK]"), Vec::new()));
    }
    Ok((Vec::new(), Vec::new()))
}
