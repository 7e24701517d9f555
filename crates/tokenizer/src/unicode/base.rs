//! Characters without their accents.
//!
//! The table is 5 KiB in the binary and is spread into one of 16 KiB on first use. A program
//! for pages would not hold the tables of all normal forms for the sake of this.

use std::sync::OnceLock;

use super::bases::BASES;

/// The first character of the canonical decomposition (NFD); of most characters, themselves.
pub(crate) fn base(c: char) -> char {
    const FIRST_SYLLABLE: u32 = 0xac00;
    const LAST_SYLLABLE: u32 = 0xd7a3;
    const FIRST_LEADING_CONSONANT: u32 = 0x1100;
    /// With the same leading consonant.
    const N_SYLLABLES: u32 = 588;

    static PAIRS: OnceLock<Vec<(char, char)>> = OnceLock::new();
    if let syllable @ FIRST_SYLLABLE..=LAST_SYLLABLE = u32::from(c) {
        let consonant = FIRST_LEADING_CONSONANT + (syllable - FIRST_SYLLABLE) / N_SYLLABLES;
        return char::from_u32(consonant).unwrap_or(c);
    }
    let pairs = PAIRS.get_or_init(pairs);
    pairs.binary_search_by_key(&c, |pair| pair.0).map_or(c, |at| pairs[at].1)
}

/// What [`BASES`] says: characters in order, and their bases.
fn pairs() -> Vec<(char, char)> {
    let mut numbers = super::numbers(&BASES);
    let mut pairs = Vec::new();
    let (mut c, mut base) = (0, 0);
    while let (Some(step), Some(zigzag)) = (numbers.next(), numbers.next()) {
        c += step;
        base += (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
        pairs.extend(char::from_u32(c).zip(char::from_u32(base as u32)));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_normalization::char::decompose_canonical;

    #[test]
    fn every_character_has_the_base_that_its_canonical_decomposition_begins_with() {
        for c in '\0'..=char::MAX {
            let mut first = None;
            decompose_canonical(c, |part| {
                first.get_or_insert(part);
            });
            assert_eq!(base(c), first.unwrap(), "{c:?}");
        }
    }
}
