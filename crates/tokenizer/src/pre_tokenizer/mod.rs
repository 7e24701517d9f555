//! Splits a text into words, within which BPE then merges.
//!
//! Model families do this with regular expressions. Here each is a list of
//! [`Stage`]s, small scanners with parameters, in [`table`]: every stage cuts
//! the pieces of the one before, each in one pass over the text whatever it
//! contains.

mod table;
mod words;

pub(crate) use table::{Alphabet, Family, family, names};

use crate::unicode::{Class, Classes};
use words::Words;

/// A set of characters: by class, by range, or all but those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    classes: Class,
    ranges: &'static [(char, char)],
    negated: bool,
}

impl Set {
    const NONE: Set = Set::of(Class::NONE);

    const fn of(classes: Class) -> Set {
        Set { classes, ranges: &[], negated: false }
    }

    const fn ranges(ranges: &'static [(char, char)]) -> Set {
        Set { classes: Class::NONE, ranges, negated: false }
    }

    const fn and(self, ranges: &'static [(char, char)]) -> Set {
        Set { ranges, ..self }
    }

    const fn negated(self) -> Set {
        Set { negated: true, ..self }
    }

    #[inline]
    fn contains(&self, at: At) -> bool {
        let named = at.class.meets(self.classes)
            || self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&at.c));
        at.len != 0 && named != self.negated
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
                At { c: byte.into(), class: self.classes.of_ascii(byte), len: 1 }
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
            let at = self.at(position);
            if !set.contains(at) {
                break;
            }
            position += at.len;
        }
        position
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
    /// Numbers in groups of three counted from the right, the rest first; with
    /// `whole`, only numbers that no letter follows.
    GroupsOfThree { whole: bool },
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
                let first = scanner.at(position);
                let with_lead = position + if lead.contains(first) { first.len } else { 0 };
                // Without the lead, when nothing follows it.
                [with_lead, position].into_iter().find_map(|start| {
                    let end = scanner.run(start, of, *max);
                    let long_enough =
                        *min <= 1 || scanner.text[start..end].chars().count() >= *min;
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
                let end = scanner.run(position, &SPACE, usize::MAX);
                if end > position && end < scanner.text.len() {
                    return end;
                }
                (end > position).then_some(end)
            }
            Stage::GroupsOfThree { whole } => {
                let end = scanner.run(position, &NUMBER, usize::MAX);
                let next = scanner.at(end);
                let in_word = next.class.meets(Class::LETTER.or(Class::MARK)) || next.c == '_';
                if end > position && !(*whole && in_word) {
                    return groups_of_three(scanner, position, end, pieces);
                }
                if end > position {
                    return end;
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
    let mut group = if n_digits % 3 == 0 { 3 } else { n_digits % 3 };
    while start < end {
        let group_end = scanner.run(start, &NUMBER, group);
        pieces.matched(start, group_end);
        start = group_end;
        group = 3;
    }
    end
}
