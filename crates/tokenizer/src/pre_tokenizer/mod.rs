//! Splits a text into words, within which BPE then merges.
//!
//! Model families do this with regular expressions. Here each is a list of
//! [`Stage`]s, small scanners with parameters, in [`table`]: every stage cuts
//! the pieces of the one before, each in one pass over the text whatever it
//! contains.

mod table;
mod words;

pub(crate) use table::{Alphabet, PreTokenizer, find, names};

use crate::unicode::{Class, Classes};
use words::Words;

/// A set of characters: by class, by range, or all but those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    classes: Class,
    /// Ascending.
    ranges: &'static [(char, char)],
    negated: bool,
    /// Which ASCII characters all this comes to.
    ascii: [bool; 128],
}

impl Set {
    const NONE: Set = Set::of(Class::NONE);

    const fn of(classes: Class) -> Set {
        Set::new(classes, &[], false)
    }

    const fn ranges(ranges: &'static [(char, char)]) -> Set {
        Set::new(Class::NONE, ranges, false)
    }

    const fn and(self, ranges: &'static [(char, char)]) -> Set {
        Set::new(self.classes, ranges, self.negated)
    }

    const fn negated(self) -> Set {
        Set::new(self.classes, self.ranges, true)
    }

    const fn new(classes: Class, ranges: &'static [(char, char)], negated: bool) -> Set {
        let mut ascii = [false; 128];
        let mut byte = 0;
        while byte < 128 {
            let mut named = Classes::of_ascii(byte).meets(classes);
            let mut i = 0;
            while i < ranges.len() {
                named |= ranges[i].0 as u32 <= byte as u32 && byte as u32 <= ranges[i].1 as u32;
                i += 1;
            }
            ascii[byte as usize] = named != negated;
            byte += 1;
        }
        Set { classes, ranges, negated, ascii }
    }

    /// Whether this is an ASCII character of the set.
    #[inline]
    fn contains_ascii(&self, byte: u8) -> bool {
        self.ascii.get(usize::from(byte)) == Some(&true)
    }

    #[inline]
    fn contains(&self, at: At) -> bool {
        if at.c.is_ascii() {
            return at.len != 0 && self.contains_ascii(at.c as u8);
        }
        let in_ranges = || {
            let before = self.ranges.partition_point(|(first, _)| *first <= at.c);
            before.checked_sub(1).is_some_and(|i| at.c <= self.ranges[i].1)
        };
        (at.class.meets(self.classes) || in_ranges()) != self.negated
    }
}

/// The character at a position of a text; `len` is 0 behind its end.
#[derive(Clone, Copy)]
struct At {
    c: char,
    class: Class,
    len: usize,
}

/// Reads characters of a text with their classes.
#[derive(Clone, Copy)]
struct Scanner<'t> {
    text: &'t str,
    classes: &'static Classes,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        Scanner { text, classes: Classes::get() }
    }

    #[inline]
    fn at(&self, position: usize) -> At {
        match self.text.as_bytes().get(position) {
            None => At { c: '\0', class: Class::NONE, len: 0 },
            Some(&byte) if byte < 128 => {
                At { c: byte.into(), class: Classes::of_ascii(byte), len: 1 }
            }
            Some(_) => {
                let c = self.text[position..].chars().next().unwrap_or('\0');
                At { c, class: self.classes.of(c), len: c.len_utf8() }
            }
        }
    }

    /// Where the run of at most `max` characters of `set` from `position` ends.
    #[inline]
    fn run(&self, mut position: usize, set: &Set, max: usize) -> usize {
        for _ in 0..max {
            if self.text.as_bytes().get(position).is_some_and(|byte| set.contains_ascii(*byte)) {
                position += 1;
                continue;
            }
            let at = self.at(position);
            if at.c.is_ascii() || !set.contains(at) {
                break;
            }
            position += at.len;
        }
        position
    }

    /// The first position from `position` on that is not an ASCII character
    /// outside both sets.
    #[inline]
    fn skip(&self, position: usize, wanted: [&Set; 2]) -> usize {
        let rest = &self.text.as_bytes()[position..];
        let found = rest.iter().position(|byte| {
            !byte.is_ascii() || wanted.iter().any(|set| set.contains_ascii(*byte))
        });
        position + found.unwrap_or(rest.len())
    }
}

/// One pass of cutting. What a stage does not match stays in one piece.
pub(crate) enum Stage {
    /// The main pattern of most families; see [`Words`].
    Words(Words),
    /// `lead? of{min,max}`
    Runs { lead: Set, of: Set, min: usize, max: usize },
    /// `[^\n]+|\n+`
    Lines,
    /// `\s+$`
    TrailingSpace,
    /// Numbers in groups of three counted from the right, the rest first.
    GroupsOfThree(Set),
    /// Any of these texts, the first that fits.
    Literals(&'static [&'static str]),
}

const SPACE: Set = Set::of(Class::SPACE);
const NUMBER: Set = Set::of(Class::NUMBER);

/// Hands on the pieces of a text, what lies between matches included.
struct Pieces<'t, 'w> {
    text: &'t str,
    /// Where the part begins that was not handed on yet.
    pending: usize,
    rest: &'static [Stage],
    word: &'w mut dyn FnMut(&'t str),
}

impl<'t> Pieces<'t, '_> {
    #[inline]
    fn matched(&mut self, start: usize, end: usize) {
        for piece in [&self.text[self.pending..start], &self.text[start..end]] {
            if !piece.is_empty() {
                split(self.rest, piece, self.word);
            }
        }
        self.pending = end;
    }
}

/// Calls `word` with the pieces of `text`, in order; together they are `text`.
pub(crate) fn split<'t>(stages: &'static [Stage], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let Some((stage, rest)) = stages.split_first() else {
        word(text);
        return;
    };
    let scanner = Scanner::new(text);
    let mut pieces = Pieces { text, pending: 0, rest, word };
    let mut position = 0;
    while position < text.len() {
        position = stage.step(&scanner, position, &mut pieces);
    }
    pieces.matched(text.len(), text.len());
}

impl Stage {
    /// Hands on what matches at `position`; gives where to go on, further right.
    #[inline]
    fn step(&self, scanner: &Scanner<'_>, position: usize, pieces: &mut Pieces<'_, '_>) -> usize {
        let end = match self {
            Stage::Words(words) => words.match_at(scanner, position),
            Stage::Runs { lead, of, min, max } => {
                let skipped = scanner.skip(position, [lead, of]);
                if skipped > position {
                    return skipped;
                }
                let first = scanner.at(position);
                let with_lead = position + if lead.contains(first) { first.len } else { 0 };
                // Without the lead, when nothing follows it.
                [with_lead, position].into_iter().find_map(|start| {
                    let end = scanner.run(start, of, *max);
                    let long_enough = *min <= 1 || scanner.text[start..end].chars().count() >= *min;
                    (end > start && long_enough).then_some(end)
                })
            }
            Stage::Lines => {
                let bytes = scanner.text.as_bytes();
                let newline = bytes[position] == b'\n';
                let other = bytes[position..].iter().position(|b| (*b == b'\n') != newline);
                Some(other.map_or(bytes.len(), |n| position + n))
            }
            Stage::TrailingSpace => {
                let is_space = |c| scanner.classes.of(c).meets(Class::SPACE);
                let start = scanner.text.trim_end_matches(is_space).len().max(position);
                pieces.matched(start, scanner.text.len());
                return scanner.text.len();
            }
            Stage::GroupsOfThree(of) => {
                let end = scanner.run(position, of, usize::MAX);
                if end > position {
                    // A space in front is no part of a longer run, as in llama.cpp.
                    let before = scanner.text[pieces.pending..position].chars().next_back();
                    let is_space = |c: &char| c.is_whitespace() && !matches!(c, '\r' | '\n');
                    if let Some(space) = before.filter(is_space) {
                        pieces.matched(position - space.len_utf8(), position);
                    }
                    return groups_of_three(scanner, position, end, pieces);
                }
                None
            }
            Stage::Literals(literals) => {
                let rest = &scanner.text[position..];
                let literal = literals.iter().find(|l| rest.starts_with(**l));
                literal.map(|l| position + l.len())
            }
        };
        match end {
            Some(end) => {
                pieces.matched(position, end);
                end
            }
            None => position + scanner.at(position).len,
        }
    }
}

fn groups_of_three(
    scanner: &Scanner<'_>,
    mut start: usize,
    end: usize,
    pieces: &mut Pieces<'_, '_>,
) -> usize {
    let n_digits = scanner.text[start..end].chars().count();
    let mut group = if n_digits.is_multiple_of(3) { 3 } else { n_digits % 3 };
    while start < end {
        let group_end = scanner.run(start, &NUMBER, group);
        pieces.matched(start, group_end);
        start = group_end;
        group = 3;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        split(find(name).unwrap().stages, text, &mut |piece| pieces.push(piece));
        pieces
    }

    #[test]
    fn pieces_of_every_family_make_up_the_text() {
        let text = "It's 1234567 x12345 don'T  \t\n\n ĲsSEL ABCdef ǅ語한국 ñ é ... --->'re\r\n/ \
                    ١٢٣٤ _a9 $5.00 (x) 。， ーカナ \u{a0}\u{3000} end   ";
        for name in names() {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn ranges_of_every_set_ascend() {
        fn check(name: &str, set: &Set) {
            let flat: Vec<char> = set.ranges.iter().flat_map(|(a, b)| [*a, *b]).collect();
            assert!(flat.is_sorted(), "{name}: {flat:?}");
        }
        for name in names() {
            for stage in find(name).unwrap().stages {
                match stage {
                    Stage::Runs { lead, of, .. } => [lead, of].map(|set| check(name, set)),
                    Stage::Words(words) => {
                        [&words.lead, &words.punctuation].map(|set| check(name, set))
                    }
                    _ => [(), ()],
                };
            }
        }
    }

    // What the regular expressions of the families' own tokenizer.json match.
    #[test]
    fn families_differ_as_their_patterns_do() {
        for (name, text, want) in [
            ("gpt-2", "It's 1234  x'RE", &["It", "'s", " 1234", " ", " x", "'", "RE"][..]),
            (
                "llama-bpe",
                "It's 1234  x'RE\n\n y",
                &["It", "'s", " ", "123", "4", " ", " x", "'RE", "\n\n", " y"],
            ),
            ("qwen2", "a12 (b)\n", &["a", "1", "2", " (", "b", ")\n"]),
            ("qwen2", "e\u{301}", &["e", "\u{301}"]),
            ("qwen35", "e\u{301}", &["e\u{301}"]),
            ("gpt-4o", "HelloWorld's ABC", &["Hello", "World's", " ABC"]),
            ("gpt-4o", "ABCdef語", &["ABCdef語"]),
            ("tekken", "HelloWorld's 12", &["Hello", "World", "'s", " ", "1", "2"]),
            ("deepseek-v3", "12345 .abc 語語x", &["123", "45", " .", "abc", " ", "語語", "x"]),
            ("falcon", "12345.x", &["123", "45", ".", "x"]),
            ("starcoder", "a12", &["a", "1", "2"]),
            ("tiny_aya", "1234567 x", &["1", "234", "567", " x"]),
            ("tiny_aya", "1234x", &["1", "234", "x"]),
            ("superbpe", "a 1234567", &["a ", "1", "234", "567"]),
            ("bloom", "a b.c", &["a", " b", ".", "c"]),
            ("exaone-moe", "two words 1", &["two words", " ", "1"]),
            ("kimi-k2", "語語Ab 語", &["語語", "Ab", " ", "語"]),
            ("jais-2", "a       b", &["a", "    ", "  ", " b"]),
            ("gemma4", "a b\n\nc", &["a b", "\n\n", "c"]),
            ("deepseek-coder", "a b1\n", &["a", " b", "1", "\n"]),
            ("deepseek-llm", "a  b  ", &["a", " ", " b", "  "]),
        ] {
            assert_eq!(pieces(name, text), want, "{name}");
        }
    }
}
