//! The alternation that nearly every family is a variant of:
//!
//! `contraction | lead? word | numbers | ascii | ' '? punctuation tail* |
//! newlines | \s+(?!\S) | \s+`

use super::{At, NUMBER, SPACE, Scanner, Set};
use crate::unicode::Class;

/// One family's main pattern.
pub(crate) struct Words {
    pub(super) contraction: Contraction,
    /// What one character may come before the letters of a word.
    pub(super) lead: Set,
    pub(super) letters: Letters,
    pub(super) numbers: Numbers,
    /// ``[!-/:-@\[-`{-~][A-Za-z]+``, before all else.
    pub(super) ascii_punctuation_leads: bool,
    pub(super) punctuation: Set,
    /// What may follow punctuation, and how often.
    pub(super) tail: &'static [char],
    pub(super) max_tail: usize,
    pub(super) newlines: Newlines,
    pub(super) space: Space,
}

/// `'s|'t|'re|'ve|'m|'ll|'d` as a word of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Contraction {
    None,
    Lower,
    AnyCase,
}

pub(super) enum Letters {
    /// A run.
    Run(Set),
    /// `\p{L}\p{M}*`, with single spaces between two of these.
    Spaced,
    /// `U*L+ | U+L*`, of what [`Case`] counts as upper and lower
    Cased {
        case: Case,
        /// A contraction belongs to the word it follows.
        contraction: bool,
        /// Han characters are no letters; runs of them are words of their own.
        without_han: bool,
    },
}

/// What tells the upper from the lower part of a word.
#[derive(Clone, Copy)]
pub(super) enum Case {
    /// The ASCII letters; all else of this class belongs to either part. So llama.cpp
    /// reads the patterns of these families.
    Ascii(Class),
    /// Nothing: all of this class belongs to either part. So llama.cpp reads those of
    /// others.
    Ignored(Class),
}

impl Case {
    fn is_upper(self, at: At) -> bool {
        match self {
            Case::Ascii(class) => at.class.meets(class) && !at.c.is_ascii_lowercase(),
            Case::Ignored(class) => at.class.meets(class),
        }
    }

    fn is_lower(self, at: At) -> bool {
        match self {
            Case::Ascii(class) => at.class.meets(class) && !at.c.is_ascii_uppercase(),
            Case::Ignored(class) => at.class.meets(class),
        }
    }
}

pub(super) enum Numbers {
    /// ` ?\p{N}+`
    Spaced,
    /// `\p{N}{1,max}`
    UpTo(usize),
    None,
}

pub(super) enum Newlines {
    None,
    /// `\s*[\r\n]+`
    Run,
    /// `[\r\n]`
    Single,
}

pub(super) enum Space {
    /// `\s+(?!\S)|\s+`
    Run,
    /// Runs whose length is a power of two, up to 512, the last character left
    /// to the word behind: `\s{512}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s`
    PowersOfTwo,
}

impl Words {
    /// Where the match at `position` ends, which must lie inside the text.
    #[inline]
    pub(super) fn match_at(&self, scanner: &Scanner<'_>, position: usize) -> Option<usize> {
        let first = scanner.at(position);
        let after_first = position + first.len;
        // The frequent case of a plain letter goes past the rarer alternatives.
        if !first.class.meets(Class::LETTER) {
            if first.c == '\'' && self.contraction != Contraction::None {
                let end = contraction(scanner, position, self.contraction);
                if end > position {
                    return Some(end);
                }
            }
            if self.ascii_punctuation_leads && first.c.is_ascii_punctuation() {
                let end = ascii_letters(scanner, after_first);
                if end > after_first {
                    return Some(end);
                }
            }
        }
        if let Letters::Cased { without_han: true, .. } = self.letters {
            let end = han(scanner, position);
            if end > position {
                return Some(end);
            }
        }
        if self.lead.contains(first)
            && let Some(end) = self.word(scanner, after_first)
        {
            return Some(end);
        }
        if let Some(end) = self.word(scanner, position) {
            return Some(end);
        }
        let spaced = if first.c == ' ' { after_first } else { position };
        match self.numbers {
            Numbers::Spaced => {
                let end = scanner.run(spaced, &NUMBER, usize::MAX);
                if end > spaced {
                    return Some(end);
                }
            }
            Numbers::UpTo(max) => {
                let end = scanner.run(position, &NUMBER, max);
                if end > position {
                    return Some(end);
                }
            }
            Numbers::None => {}
        }
        let end = scanner.run(spaced, &self.punctuation, usize::MAX);
        if end > spaced {
            return Some(self.tail(scanner, end));
        }
        self.space(scanner, first, position)
    }

    /// Where the letters from `start` end; `None` when there are none.
    #[inline]
    fn word(&self, scanner: &Scanner<'_>, start: usize) -> Option<usize> {
        match &self.letters {
            Letters::Run(letters) => {
                let end = scanner.run(start, letters, usize::MAX);
                (end > start).then_some(end)
            }
            Letters::Spaced => spaced_word(scanner, start),
            Letters::Cased { case, contraction: with_contraction, without_han } => {
                let end = cased_word(scanner, start, *case, *without_han)?;
                Some(match with_contraction {
                    true => contraction(scanner, end, Contraction::AnyCase),
                    false => end,
                })
            }
        }
    }

    fn tail(&self, scanner: &Scanner<'_>, mut end: usize) -> usize {
        for _ in 0..self.max_tail {
            let at = scanner.at(end);
            if at.len == 0 || !self.tail.contains(&at.c) {
                break;
            }
            end += at.len;
        }
        end
    }

    fn space(&self, scanner: &Scanner<'_>, first: At, position: usize) -> Option<usize> {
        if !first.class.meets(Class::SPACE) {
            return None;
        }
        if let (Newlines::Single, '\r' | '\n') = (&self.newlines, first.c) {
            return Some(position + first.len);
        }
        let end = scanner.run(position, &SPACE, usize::MAX);
        let run = &scanner.text[position..end];
        if let Newlines::Run = self.newlines
            && let Some(newline) = run.rfind(['\r', '\n'])
        {
            return Some(position + newline + 1);
        }
        // The last one is left to what follows, if anything does.
        let last = run.chars().next_back().map_or(0, char::len_utf8);
        let free = if end < scanner.text.len() { run.len() - last } else { run.len() };
        match self.space {
            Space::Run if free > 0 => Some(position + free),
            Space::Run => Some(end),
            Space::PowersOfTwo => {
                let n_free = run[..free].chars().count();
                let power = n_free.checked_ilog2().map_or(1, |log| 1 << log.min(9));
                Some(scanner.run(position, &SPACE, power))
            }
        }
    }
}

/// Where the contraction at `start` ends; `start` when there is none.
fn contraction(scanner: &Scanner<'_>, start: usize, kind: Contraction) -> usize {
    let rest = &scanner.text.as_bytes()[start..];
    let letter = |i: usize| {
        let byte = rest.get(i).copied().unwrap_or_default();
        if kind == Contraction::AnyCase { byte.to_ascii_lowercase() } else { byte }
    };
    if letter(0) != b'\'' {
        return start;
    }
    match (letter(1), letter(2)) {
        (b's' | b't' | b'm' | b'd', _) => start + 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => start + 3,
        _ => start,
    }
}

fn ascii_letters(scanner: &Scanner<'_>, start: usize) -> usize {
    let letters = scanner.text.as_bytes()[start..].iter().take_while(|b| b.is_ascii_alphabetic());
    start + letters.count()
}

fn spaced_word(scanner: &Scanner<'_>, start: usize) -> Option<usize> {
    let is_letter = |position| scanner.at(position).class.meets(Class::LETTER);
    if !is_letter(start) {
        return None;
    }
    let mut end = start;
    loop {
        end = scanner.run(end, &Set::of(Class::LETTER.or(Class::MARK)), usize::MAX);
        if scanner.at(end).c != ' ' || !is_letter(end + 1) {
            return Some(end);
        }
        end += 1;
    }
}

/// The word the two alternatives of [`Letters::Cased`] match, without a regular
/// expression's backtracking.
fn cased_word(scanner: &Scanner<'_>, start: usize, case: Case, without_han: bool) -> Option<usize> {
    let at = |position: usize| -> At {
        let at = scanner.at(position);
        if without_han && is_han(at.c) { At { class: Class::NONE, ..at } } else { at }
    };
    let run = |mut position: usize, is_in: fn(Case, At) -> bool| {
        while is_in(case, at(position)) {
            position += at(position).len;
        }
        position
    };
    let upper_end = run(start, Case::is_upper);
    let end = run(upper_end, Case::is_lower);
    if end > upper_end {
        return Some(end);
    }
    // The upper run must give back enough for one character of the lower one;
    // if it cannot, it is a word without a lower part.
    let give_back = scanner.text[start..upper_end]
        .char_indices()
        .rfind(|(offset, _)| case.is_lower(at(start + offset)));
    match give_back {
        Some((offset, c)) => Some(start + offset + c.len_utf8()),
        None => (upper_end > start).then_some(upper_end),
    }
}

fn han(scanner: &Scanner<'_>, start: usize) -> usize {
    let rest = &scanner.text[start..];
    rest.find(|c| !is_han(c)).map_or(scanner.text.len(), |end| start + end)
}

/// The CJK ideograph blocks.
fn is_han(c: char) -> bool {
    matches!(u32::from(c),
        0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0x20000..=0x2A6DF
        | 0x2A700..=0x2EBEF
        | 0x2F800..=0x2FA1F)
}
