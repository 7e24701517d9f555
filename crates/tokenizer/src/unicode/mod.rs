//! General categories of code points, as pre-tokenizers ask for them, and characters without
//! their accents.
//!
//! The ranges are 4 KiB in the binary and are spread into a two-stage table
//! (about 40 KiB) on first use.

mod base;
mod bases;
mod ranges;

use std::sync::OnceLock;

pub(crate) use base::base;
use ranges::RANGES;

/// A set of classes; every code point is in exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u16);

impl Class {
    pub(crate) const NONE: Class = Class(0);
    /// Not assigned, or a surrogate.
    #[cfg(test)]
    pub(crate) const UNASSIGNED: Class = Class(1 << 0);
    /// Cc, Cf and Co, without white space.
    pub(crate) const CONTROL: Class = Class(1 << 1);
    /// Lu and Lt.
    pub(crate) const UPPER: Class = Class(1 << 2);
    /// Ll.
    pub(crate) const LOWER: Class = Class(1 << 3);
    /// Lm and Lo: neither upper nor lower case.
    pub(crate) const UNCASED: Class = Class(1 << 4);
    /// `\p{M}`
    pub(crate) const MARK: Class = Class(1 << 5);
    /// `\p{N}`
    pub(crate) const NUMBER: Class = Class(1 << 6);
    /// `\p{P}`
    pub(crate) const PUNCTUATION: Class = Class(1 << 7);
    /// `\p{S}`
    pub(crate) const SYMBOL: Class = Class(1 << 8);
    /// `\s`
    pub(crate) const SPACE: Class = Class(1 << 9);
    /// `\p{L}`
    pub(crate) const LETTER: Class = Class::UPPER.or(Class::LOWER).or(Class::UNCASED);

    /// The union of both sets.
    pub(crate) const fn or(self, other: Class) -> Class {
        Class(self.0 | other.0)
    }

    /// Whether the sets share a class.
    #[inline]
    pub(crate) const fn meets(self, other: Class) -> bool {
        self.0 & other.0 != 0
    }
}

/// The classes of the ASCII characters.
const ASCII: [Class; 128] = {
    let mut classes = [Class::CONTROL; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'\t'..=b'\r' | b' ' => Class::SPACE,
            b'A'..=b'Z' => Class::UPPER,
            b'a'..=b'z' => Class::LOWER,
            b'0'..=b'9' => Class::NUMBER,
            b'$' | b'+' | b'<'..=b'>' | b'^' | b'`' | b'|' | b'~' => Class::SYMBOL,
            0..b' ' | 0x7F.. => Class::CONTROL,
            _ => Class::PUNCTUATION,
        };
        byte += 1;
    }
    classes
};

const BLOCK: usize = 256;

/// Class numbers by code point, equal blocks stored once.
pub(crate) struct Classes {
    block_of: Vec<u16>,
    blocks: Vec<[u8; BLOCK]>,
}

impl Classes {
    /// The one table of the process.
    pub(crate) fn get() -> &'static Classes {
        static CLASSES: OnceLock<Classes> = OnceLock::new();
        CLASSES.get_or_init(Classes::build)
    }

    fn build() -> Self {
        let mut block_of = Vec::with_capacity(0x110000 / BLOCK);
        let mut blocks: Vec<[u8; BLOCK]> = Vec::new();
        let mut ranges = ranges();
        let mut next = ranges.next();
        let mut class = 0;
        for first in (0..0x110000u32).step_by(BLOCK) {
            let mut block = [0; BLOCK];
            for (code_point, entry) in (first..).zip(&mut block) {
                if let Some((_, range_class)) = next.filter(|(start, _)| *start == code_point) {
                    class = range_class;
                    next = ranges.next();
                }
                *entry = class;
            }
            // Equal blocks are mostly neighbours or the last few.
            let known = blocks.iter().rposition(|b| *b == block).unwrap_or_else(|| {
                blocks.push(block);
                blocks.len() - 1
            });
            block_of.push(known as u16);
        }
        Classes { block_of, blocks }
    }

    /// The class of an ASCII byte.
    #[inline]
    pub(crate) const fn of_ascii(byte: u8) -> Class {
        ASCII[(byte & 0x7f) as usize]
    }

    /// The class of a character.
    #[inline]
    pub(crate) fn of(&self, c: char) -> Class {
        let code_point = c as usize;
        let block = usize::from(self.block_of[code_point / BLOCK]);
        Class(1 << self.blocks[block][code_point % BLOCK])
    }
}

/// What [`RANGES`] says: where each range begins, and its class.
fn ranges() -> impl Iterator<Item = (u32, u8)> {
    numbers(&RANGES).scan(0, |start, number| {
        *start += number >> 4;
        Some((*start, (number & 15) as u8))
    })
}

/// The numbers of a table: groups of seven bits, the lowest first, each with a bit above that
/// is set where there are more.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let mut bytes = bytes.iter();
    std::iter::from_fn(move || {
        let (mut number, mut bits) = (0, 0);
        loop {
            let byte = *bytes.next()?;
            number |= u32::from(byte & 127) << bits;
            bits += 7;
            if byte < 128 {
                return Some(number);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::hir::{Class as HirClass, HirKind};

    fn code_points(pattern: &str) -> Vec<char> {
        let hir = regex_syntax::parse(pattern).unwrap();
        let HirKind::Class(HirClass::Unicode(class)) = hir.kind() else { panic!("{pattern}") };
        class.ranges().iter().flat_map(|r| r.start()..=r.end()).collect()
    }

    #[test]
    fn every_code_point_has_the_class_a_regex_engine_gives_it() {
        for (pattern, class) in [
            (r"[\p{Cc}\p{Cf}\p{Co}&&\S]", Class::CONTROL),
            (r"[\p{Lu}\p{Lt}]", Class::UPPER),
            (r"\p{Ll}", Class::LOWER),
            (r"[\p{Lm}\p{Lo}]", Class::UNCASED),
            (r"\p{L}", Class::LETTER),
            (r"\p{M}", Class::MARK),
            (r"\p{N}", Class::NUMBER),
            (r"\p{P}", Class::PUNCTUATION),
            (r"\p{S}", Class::SYMBOL),
            (r"\s", Class::SPACE),
            (r"\p{Cn}", Class::UNASSIGNED),
        ] {
            let classes = Classes::get();
            let ours: Vec<char> =
                ('\0'..=char::MAX).filter(|c| classes.of(*c).meets(class)).collect();
            assert!(ours == code_points(pattern), "{pattern}");
        }
    }

    #[test]
    fn ascii_bytes_have_the_class_of_their_character() {
        let classes = Classes::get();
        for byte in 0..128u8 {
            assert_eq!(Classes::of_ascii(byte), classes.of(byte.into()), "{byte}");
        }
    }
}
