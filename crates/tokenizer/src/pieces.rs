//! The bytes each token stands for in a text, and the clean-up WordPiece needs.

use crate::byte_alphabet;
use crate::pre_tokenizer::Alphabet;
use crate::rwkv::unescaped;
use crate::strings::Strings;
use crate::vocabulary::{TokenKind, Vocabulary};
use crate::words::SPACE_MARK;

/// What every token is decoded to, special tokens to their own text.
pub(crate) fn pieces(vocabulary: &Vocabulary, alphabet: Alphabet) -> Strings {
    let mut pieces = Strings::new();
    let mut buffer = Vec::new();
    for (id, kind) in (0..).zip(&vocabulary.kinds) {
        buffer.clear();
        piece(vocabulary.text(id), *kind, alphabet, &mut buffer);
        pieces.push_unfindable(&buffer);
    }
    pieces
}

fn piece(text: &str, kind: TokenKind, alphabet: Alphabet, out: &mut Vec<u8>) {
    match kind {
        _ if alphabet == Alphabet::Escaped => out.extend(unescaped(text.as_bytes())),
        TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined => {
            out.extend_from_slice(text.as_bytes());
        }
        TokenKind::Byte => {
            let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(text.as_bytes()),
            }
        }
        TokenKind::Normal => match alphabet {
            Alphabet::SpaceMark => {
                out.extend_from_slice(text.replace(SPACE_MARK, " ").as_bytes());
            }
            Alphabet::Plain | Alphabet::Escaped => out.extend_from_slice(text.as_bytes()),
            Alphabet::Bytes => {
                for c in text.chars() {
                    match byte_alphabet::byte(c) {
                        Some(byte) => out.push(byte),
                        None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
        },
        TokenKind::Unused | TokenKind::Undefined => {}
    }
}

/// Takes out the spaces WordPiece puts between all words: those before `?!.,`,
/// those around a lone apostrophe, those before `'s`, `'m`, `'re` and `'ve`.
///
/// Source: the three passes at the end of `llama_vocab::impl::detokenize` in
/// llama.cpp, in the same order.
pub(crate) fn clean_spaces(text: Vec<u8>) -> Vec<u8> {
    let text = without(&text, |before, here, _| before == b' ' && b"?!.,".contains(&here));
    let text = lone_apostrophes(&text);
    without(&text, |before, here, after| {
        before == b' '
            && here == b'\''
            && (matches!(after.first(), Some(b's' | b'm'))
                || after.starts_with(b"re")
                || after.starts_with(b"ve"))
    })
}

/// `text` without each byte after which `drop(it, next, rest)` holds.
fn without(text: &[u8], drop: impl Fn(u8, u8, &[u8]) -> bool) -> Vec<u8> {
    let kept = text.iter().enumerate().filter(|(i, byte)| match text.get(i + 1) {
        Some(next) => !drop(**byte, *next, &text[i + 2..]),
        None => true,
    });
    kept.map(|(_, byte)| *byte).collect()
}

/// `" ' "` to `"'"`.
fn lone_apostrophes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        if text[i..].starts_with(b" ' ") {
            out.push(b'\'');
            i += 3;
        } else {
            out.push(text[i]);
            i += 1;
        }
    }
    out
}

/// Up to where `text` can be cleaned on its own, whatever follows it: before the
/// last space that has neither a space nor an apostrophe before it.
pub(crate) fn cleanable(text: &[u8]) -> usize {
    (1..text.len())
        .rev()
        .find(|&i| text[i] == b' ' && !matches!(text[i - 1], b' ' | b'\''))
        .unwrap_or(0)
}
