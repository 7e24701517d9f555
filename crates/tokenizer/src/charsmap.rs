//! The normalisation table that SentencePiece compiles into a model.
//!
//! `tokenizer.ggml.precompiled_charsmap` holds the byte length of a double array
//! (u32, little-endian), the array itself (u32 units), and the replacements, each
//! ended by a zero byte. The array is a trie of what is to be replaced, laid out
//! as by Darts-clone. A unit is, from the lowest bit: 8 bits of the byte that
//! leads to it, whether a key ends here, whether the offset is in steps of 256,
//! and the offset to its children, which is XORed with the unit's own index. A
//! key's value stands in a unit of its own with the highest bit set.

use realm_gguf::{Array, Metadata, Value, ValueType};

use crate::error::{Error, Result};

const KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// Longer replacements are refused: what normalisation writes is a sequence of a
/// few characters (the longest of NFKC has 33 bytes), and a text must not grow
/// without bounds.
const MAX_REPLACEMENT_BYTES: usize = 256;

const IS_VALUE: u32 = 1 << 31;
const ENDS_KEY: u32 = 1 << 8;

/// What to replace by what.
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// `None` when the file has no such table.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a length or an offset in it points outside, or a
    /// replacement is no text of a reasonable length.
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Option<Self>> {
        let items = match metadata.get(KEY) {
            None => return Ok(None),
            Some(Value::Array(array)) if array.is_empty() => return Ok(None),
            Some(Value::Array(Array::Scalars(items))) => items,
            Some(other) => return Err(not_bytes(other.value_type())),
        };
        let byte = |value| match value {
            Value::U8(byte) => Ok(byte),
            Value::I8(byte) => Ok(byte.cast_unsigned()),
            other => Err(not_bytes(other.value_type())),
        };
        let bytes: Vec<u8> = items.iter().map(byte).collect::<Result<_>>()?;
        let charsmap = Charsmap::split(&bytes).ok_or_else(|| {
            let found = format!("{} bytes", bytes.len());
            Error::invalid(KEY, found, "the length of an array, the array and replacements")
        })?;
        charsmap.check()?;
        Ok(Some(charsmap))
    }

    fn split(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (units, replacements) = rest.split_at_checked(len)?;
        let (units, odd) = units.as_chunks();
        let complete = !units.is_empty() && odd.is_empty() && !replacements.is_empty();
        complete.then(|| Charsmap {
            units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            replacements: replacements.to_vec(),
        })
    }

    /// Checks every unit at which a key ends.
    fn check(&self) -> Result<()> {
        for (index, unit) in (0..).zip(&self.units) {
            if unit & IS_VALUE != 0 || unit & ENDS_KEY == 0 {
                continue;
            }
            let value = self.units.get((index ^ offset(*unit)) as usize);
            if value.and_then(|value| self.replacement(value & !IS_VALUE)).is_none() {
                let key = format!("{KEY}, unit {index}");
                let found = format!("{unit:#010x}, which leads to no replacement");
                let expected = format!("a text of at most {MAX_REPLACEMENT_BYTES} bytes");
                return Err(Error::invalid(key, found, expected));
            }
        }
        Ok(())
    }

    fn replacement(&self, at: u32) -> Option<&str> {
        let bytes = self.replacements.get(at as usize..)?;
        let len = bytes.iter().take(MAX_REPLACEMENT_BYTES + 1).position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..len]).ok()
    }

    /// The longest beginning of `text` that is to be replaced: its length in
    /// bytes, and by what.
    pub(crate) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut found = None;
        let mut node = offset(self.units[0]);
        for (len, byte) in (1..).zip(text.bytes()) {
            node ^= u32::from(byte);
            let Some(&unit) = self.units.get(node as usize) else { break };
            if byte == 0 || unit & (IS_VALUE | 0xFF) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if unit & ENDS_KEY != 0 && text.is_char_boundary(len) {
                found = Some((len, self.units[node as usize] & !IS_VALUE));
            }
        }
        found.and_then(|(len, at)| Some((len, self.replacement(at)?)))
    }
}

/// From a unit to its children.
fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit >> 6) & 8)
}

fn not_bytes(found: ValueType) -> Box<Error> {
    Error::invalid(KEY, found.to_string(), "an array of u8 or i8")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_units_are_refused_or_safe(
            // Small offsets, so that paths lead somewhere.
            units in prop::collection::vec((0u32..256, 0u32..4, 0u32..300, 0u32..8), 1..300),
            text in any::<String>(),
        ) {
            let units = units.into_iter().map(|(label, flags, offset, value)| {
                label | flags << 8 | offset << 10 | if value == 0 { IS_VALUE } else { 0 }
            });
            let charsmap =
                Charsmap { units: units.collect(), replacements: "a\0é\0\0".as_bytes().to_vec() };
            if charsmap.check().is_ok() {
                for (at, _) in text.char_indices() {
                    if let Some((len, _)) = charsmap.longest(&text[at..]) {
                        prop_assert!(text.is_char_boundary(at + len));
                    }
                }
            }
        }
    }
}
