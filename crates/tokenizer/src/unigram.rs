//! Unigram as llama.cpp runs it: of all ways to cut a normalised text into
//! tokens, the one with the highest sum of scores.
//!
//! Source: `llm_tokenizer_ugm_session` in llama.cpp `src/llama-vocab.cpp`.

use realm_gguf::Metadata;

use crate::charsmap::Charsmap;
use crate::error::Result;
use crate::partition::user_defined;
use crate::trie::Trie;
use crate::vocabulary::{TokenKind, Vocabulary};
use crate::words::SPACE_MARK;

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

pub(crate) struct Unigram {
    tokens: Trie,
    /// By id; 0 for user-defined tokens, which makes them win over all others.
    scores: Vec<f32>,
    /// The token of what no other covers; an id out of range when there is none.
    unknown: u32,
    unknown_score: f64,
    charsmap: Option<Charsmap>,
    user_defined: Trie,
    add_space_prefix: bool,
    remove_extra_whitespaces: bool,
}

/// The best way to get to a position.
#[derive(Clone, Copy)]
struct Way {
    score: f64,
    /// The last token on it.
    token: u32,
    /// Where that token begins, counted from the lattice's start.
    from: usize,
}

/// The best ways from one position of a text to those behind it, as far as some
/// token reaches.
#[derive(Default)]
struct Lattice {
    /// Where in the text the first of `ways` stands.
    start: usize,
    /// Up to where in the text tokens reach.
    end: usize,
    ways: Vec<Way>,
}

impl Unigram {
    pub(crate) fn new(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
        add_space_prefix: bool,
    ) -> Result<Self> {
        let score = |id: u32| match vocabulary.kinds[id as usize] {
            TokenKind::UserDefined => 0.0,
            _ => vocabulary.scores.get(id as usize).copied().unwrap_or(0.0),
        };
        let ids = 0..vocabulary.n_tokens() as u32;
        let normal = vocabulary.entries_of(|kind| kind == TokenKind::Normal);
        let worst = normal.map(|(_, id)| score(id)).fold(f32::MAX, f32::min);
        let merge = metadata.bool("tokenizer.ggml.remove_extra_whitespaces")?;
        Ok(Unigram {
            tokens: Trie::new(vocabulary.entries_of(|kind| {
                matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused)
            })),
            scores: ids.map(score).collect(),
            unknown: unknown.unwrap_or(u32::MAX),
            unknown_score: (worst - UNKNOWN_PENALTY).into(),
            charsmap: Charsmap::from_metadata(metadata)?,
            user_defined: user_defined(vocabulary),
            add_space_prefix,
            remove_extra_whitespaces: merge.unwrap_or(false),
        })
    }

    /// Appends the tokens of `text`, which has no special tokens in it.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let text = self.normalized(text);
        let mut lattice = Lattice::default();
        let mut path = Vec::new();
        let mut after_unknown = false;
        let mut emit = |lattice: &mut Lattice| {
            lattice.finish(&mut path);
            for id in path.drain(..).rev() {
                // A run of unknown characters is one token.
                if id != self.unknown || !after_unknown {
                    out.extend(Some(id).filter(|id| (*id as usize) < self.scores.len()));
                }
                after_unknown = id == self.unknown;
            }
        };
        for (at, c) in text.char_indices() {
            // No token reaches beyond this position, so every way leads through it.
            if at == lattice.end {
                emit(&mut lattice);
            }
            let mut has_token = false;
            let tokens = (1..).zip(self.tokens.walk(&text.as_bytes()[at..]));
            for (len, id) in tokens.filter_map(|(len, id)| Some((len, id?))) {
                has_token |= len == c.len_utf8();
                lattice.offer(at, len, id, self.scores[id as usize].into());
            }
            if !has_token {
                lattice.offer(at, c.len_utf8(), self.unknown, self.unknown_score);
            }
        }
        emit(&mut lattice);
    }

    /// `text` with characters replaced and spaces written `▁`.
    fn normalized(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 2);
        let mut lead = self.add_space_prefix;
        let mut in_word = false;
        let mut rest = text;
        while !rest.is_empty() {
            let (len, replacement) = self.replacement(rest);
            for c in replacement.chars() {
                if c == ' ' {
                    in_word = false;
                    if !self.remove_extra_whitespaces {
                        out.push(SPACE_MARK);
                    }
                    continue;
                }
                if !in_word && (lead || self.remove_extra_whitespaces) {
                    out.push(SPACE_MARK);
                    lead = false;
                }
                in_word = true;
                out.push(c);
            }
            rest = &rest[len..];
        }
        out
    }

    /// How many bytes of `text` are replaced next, and by what.
    fn replacement<'a>(&'a self, text: &'a str) -> (usize, &'a str) {
        // User-defined tokens are not normalised, nor is what looks like the
        // beginning of one: llama.cpp goes along its tokens as far as it can (and
        // would stop inside a character, of which it then makes U+FFFD).
        let kept = text.floor_char_boundary(self.user_defined.walk(text.as_bytes()).count());
        if kept > 0 {
            return (kept, &text[..kept]);
        }
        let found = self.charsmap.as_ref().and_then(|charsmap| charsmap.longest(text));
        found.unwrap_or_else(|| {
            let len = text.ceil_char_boundary(1);
            (len, &text[..len])
        })
    }
}

impl Lattice {
    /// A token of `len` bytes at position `at`, which some way leads to.
    fn offer(&mut self, at: usize, len: usize, token: u32, score: f64) {
        let from = at - self.start;
        let score = self.ways[from].score + score;
        let to = from + len;
        if self.ways.len() <= to {
            self.ways.resize(to + 1, Way { score: -f64::MAX, token, from: 0 });
        }
        if score > self.ways[to].score {
            self.ways[to] = Way { score, token, from };
        }
        self.end = self.end.max(at + len);
    }

    /// Puts the tokens of the best way to the end into `path`, the last one
    /// first, and starts again from there.
    fn finish(&mut self, path: &mut Vec<u32>) {
        let mut to = self.end - self.start;
        while to > 0 {
            let way = self.ways[to];
            path.push(way.token);
            to = way.from;
        }
        self.start = self.end;
        self.ways.clear();
        self.ways.push(Way { score: 0.0, token: 0, from: 0 });
    }
}
