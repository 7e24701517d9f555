//! Prints `src/unicode/ranges.rs`: the general category of every code point in
//! the classes pre-tokenizers distinguish, from the tables of regex-syntax.
//!
//! `cargo run -p realm-tokenizer --example unicode_ranges > crates/tokenizer/src/unicode/ranges.rs`

mod tables;

use std::io;

/// In the order of the bits in `unicode::Class`; a later line wins.
const CLASSES: [&str; 9] = [
    r"[\p{Cc}\p{Cf}\p{Co}]",
    r"[\p{Lu}\p{Lt}]",
    r"\p{Ll}",
    r"[\p{Lm}\p{Lo}]",
    r"\p{M}",
    r"\p{N}",
    r"\p{P}",
    r"\p{S}",
    r"\s",
];

fn main() -> io::Result<()> {
    let mut class_of = vec![0u32; 0x110000];
    for (bit, pattern) in CLASSES.iter().enumerate() {
        let hir = regex_syntax::parse(pattern).expect("a class of regex-syntax");
        let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) =
            hir.kind()
        else {
            panic!("{pattern} is not a Unicode class");
        };
        for range in class.ranges() {
            class_of[range.start() as usize..=range.end() as usize].fill(bit as u32 + 1);
        }
    }
    let mut bytes = Vec::new();
    let (mut last_start, mut last_class) = (0, None);
    for (code_point, &class) in (0u32..).zip(&class_of) {
        if last_class != Some(class) {
            tables::push(&mut bytes, (code_point - last_start) << 4 | class);
            (last_start, last_class) = (code_point, Some(class));
        }
    }
    tables::print(
        "unicode_ranges",
        "RANGES",
        "/// Where a class begins: `code points since the last one << 4 | class`; it goes on to the\n\
         /// next entry. Numbers are in groups of seven bits, the lowest first, with a bit above where\n\
         /// there are more.",
        &bytes,
    )
}
