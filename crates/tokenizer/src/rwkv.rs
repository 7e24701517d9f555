//! RWKV: the longest token at each position, over bytes.
//!
//! The vocabulary spells bytes as Python's `repr` of a byte string does. Source:
//! `llm_tokenizer_rwkv_session` in llama.cpp `src/llama-vocab.cpp`.

use crate::strings::Strings;
use crate::trie::Trie;
use crate::vocabulary::Vocabulary;

pub(crate) struct Rwkv {
    tokens: Trie,
    unknown: Option<u32>,
}

impl Rwkv {
    pub(crate) fn new(vocabulary: &Vocabulary, unknown: Option<u32>) -> Self {
        let mut bytes = Strings::new();
        for (text, _) in vocabulary.entries() {
            bytes.push_unfindable(&unescaped(text));
        }
        let ids = 0..vocabulary.n_tokens() as u32;
        Rwkv { tokens: Trie::new(ids.map(|id| (bytes.bytes(id), id))), unknown }
    }

    /// Appends the tokens of `text`, which has no special tokens in it.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (id, len) = match self.tokens.longest(rest) {
                Some((id, len)) => (Some(id), len),
                None => (self.unknown, 1),
            };
            out.extend(id);
            rest = &rest[len..];
        }
    }
}

/// The bytes an entry stands for: `\t`, `\n`, `\r` and `\xFF` mean those bytes,
/// any other character after a backslash itself.
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => out.push(b'\t'),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b'x') => {
                let digits = rest.by_ref().take(2).filter_map(|c| char::from(c).to_digit(16));
                out.push(digits.fold(0, |byte, digit| byte << 4 | digit as u8));
            }
            other => out.extend(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_python_byte_strings_are_their_bytes() {
        for (text, want) in [
            (r"\n\r\t", &b"\n\r\t"[..]),
            (r"\xe2\x80", b"\xe2\x80"),
            (r"a\\n\'", br"a\n'"),
            ("é", "é".as_bytes()),
            (r"\x00\xfFx", b"\x00\xffx"),
        ] {
            assert_eq!(unescaped(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn an_unfinished_escape_does_no_harm() {
        for (text, want) in [(r"a\", &b"a"[..]), (r"\x", b"\0"), (r"\x4", b"\x04")] {
            assert_eq!(unescaped(text.as_bytes()), want, "{text}");
        }
    }
}
