//! Prints `src/unicode/bases.rs`: what characters are without their accents, from the tables
//! of unicode-normalization.
//!
//! `cargo run -p realm-tokenizer --example unicode_bases > crates/tokenizer/src/unicode/bases.rs`

mod tables;

use std::io;

use unicode_normalization::char::decompose_canonical;

fn main() -> io::Result<()> {
    let mut bytes = Vec::new();
    let (mut last, mut last_base) = (0, 0);
    for c in ('\0'..=char::MAX).filter(|c| !('\u{ac00}'..='\u{d7a3}').contains(c)) {
        let mut base = None;
        decompose_canonical(c, |part| {
            base.get_or_insert(part);
        });
        let Some(base) = base.filter(|base| *base != c) else { continue };
        let step = base as i32 - last_base;
        tables::push(&mut bytes, c as u32 - last);
        tables::push(&mut bytes, (step << 1 ^ step >> 31) as u32);
        (last, last_base) = (c as u32, base as i32);
    }
    tables::print(
        "unicode_bases",
        "BASES",
        "/// For each character that decomposes, Hangul apart: how far it is from the one before, and\n\
         /// how far its first part is from that one's, in zigzag order. Numbers are in groups of seven\n\
         /// bits, the lowest first, with a bit above where there are more.",
        &bytes,
    )
}
