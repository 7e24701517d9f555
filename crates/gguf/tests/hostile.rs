//! Bytes nobody vouches for: always a value or an error, never a panic, and never
//! much more memory than the file itself.

mod common;

use common::{every_type, exercise, find};
use proptest::prelude::*;
use realm_gguf::{Error, Gguf, TensorType, ValueType};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};

/// The error of a right file after `edit`.
fn refusal(edit: impl FnOnce(&mut Vec<u8>)) -> Box<Error> {
    let mut bytes = every_type().to_bytes();
    edit(&mut bytes);
    Gguf::from_bytes(bytes).unwrap_err()
}

/// Overwrites what follows `after` in the file, `skip` bytes later.
fn patch(bytes: &mut [u8], after: &str, skip: usize, new: &[u8]) {
    let start = find(bytes, after.as_bytes()) + after.len() + skip;
    bytes[start..start + new.len()].copy_from_slice(new);
}

#[track_caller]
fn assert_says(error: &Error, parts: &[&str]) {
    for part in parts {
        assert!(error.to_string().contains(part), "\"{part}\" is not in: {error}");
    }
}

#[test]
fn other_kinds_of_file_are_told_apart_from_broken_ones() {
    let error = refusal(|b| b[..4].copy_from_slice(b"PK\x03\x04"));
    assert!(matches!(*error, Error::Invalid { .. }));
    assert_says(&error, &["file header", "magic \"GGUF\"", "[50, 4b, 03, 04]"]);

    let error = refusal(|b| b[4..8].copy_from_slice(&3u32.to_be_bytes()));
    assert!(matches!(*error, Error::Unsupported { .. }));
    assert_says(&error, &["a big-endian file is not supported", "little-endian"]);

    let error = refusal(|b| b[4] = 1);
    assert!(matches!(*error, Error::Unsupported { .. }));
    assert_says(&error, &["GGUF version 1 is not supported", "version 2 or 3"]);
}

#[test]
fn names_given_twice_are_refused() {
    let twice = GgufWriter::new().kv("a.b", 1u32).kv("a.b", 2u32).to_bytes();
    assert_says(&Gguf::from_bytes(twice).unwrap_err(), &["a.b", "the key a second time"]);
    let twice = GgufWriter::new()
        .tensor("t", &[1], TensorType::I8, vec![1])
        .tensor("t", &[1], TensorType::I8, vec![2])
        .to_bytes();
    assert_says(&Gguf::from_bytes(twice).unwrap_err(), &["t: ", "the tensor a second time"]);
}

#[test]
fn a_name_without_end_does_not_make_a_message_without_end() {
    let name = "é".repeat(20_000);
    let twice = GgufWriter::new().kv(&name, 1u32).kv(&name, 2u32).to_bytes();
    let message = Gguf::from_bytes(twice).unwrap_err().to_string();
    assert!(message.starts_with("éé") && message.len() < 4096, "{} bytes", message.len());
}

#[test]
fn tensor_entries_that_cannot_be_right_are_refused() {
    // After the name: dimension count (4), dimensions (8 each), type (4), offset (8).
    let q = "blk.0.attn_q.weight";
    for (skip, new, parts) in [
        (0, &5u32.to_le_bytes()[..], &[q, "5 dimensions", "1 to 4"][..]),
        (4, &0u64.to_le_bytes(), &[q, "shape [0, 2]", "no dimension of 0"]),
        (4, &33u64.to_le_bytes(), &[q, "rows of 33 values", "Q8_0 blocks of 32 values"]),
        (12, &(1u64 << 62).to_le_bytes(), &[q, "shape [32, 4611686018427387904]"]),
        (12, &3u64.to_le_bytes(), &["blk.0.attn_norm.weight", "shares bytes with", q]),
        (20, &99u32.to_le_bytes(), &[q, "tensor type id 99 is not supported"]),
        (24, &65u64.to_le_bytes(), &[q, "data offset 65", "a multiple of the alignment 32"]),
        (24, &(u64::MAX - 31).to_le_bytes(), &[q, "data inside the file"]),
        (24, &4096u64.to_le_bytes(), &[q, "data inside the file", "offset 4096"]),
    ] {
        assert_says(&refusal(|bytes| patch(bytes, q, skip, new)), parts);
    }
}

#[test]
fn metadata_that_cannot_be_right_is_refused() {
    // After the key: type (4), value; of an array item type (4), count (8), items.
    for (key, skip, new, parts) in [
        ("latin-1", 0, &13u32.to_le_bytes()[..], &["latin-1", "value type 13"][..]),
        ("latin-1", 4, &u64::MAX.to_le_bytes(), &["latin-1", "18446744073709551615 bytes"]),
        ("scores", 8, &(1u64 << 62).to_le_bytes(), &["scores", "4611686018427387904 items"]),
        ("tokens", 8, &(1u64 << 40).to_le_bytes(), &["tokens", "1099511627776 items"]),
        ("tokens", 16, &(1u64 << 40).to_le_bytes(), &["tokens", "1099511627776 bytes"]),
    ] {
        assert_says(&refusal(|bytes| patch(bytes, key, skip, new)), parts);
    }
    for alignment in [0u32, 4, 24] {
        let bytes = GgufWriter::new().kv("general.alignment", alignment).to_bytes();
        let found = format!("found {alignment}");
        let error = Gguf::from_bytes(bytes).unwrap_err();
        assert_says(&error, &["general.alignment", "a power of two, at least 8", &found]);
    }
    let bytes = GgufWriter::new().kv("", 1u8).to_bytes();
    assert_says(&Gguf::from_bytes(bytes).unwrap_err(), &["metadata key", "1 to 65535 bytes"]);
}

#[test]
fn arrays_nest_four_deep_and_no_deeper() {
    let nested = |levels| {
        let innermost = KvValue::from([7u8]);
        let array = (1..levels).fold(innermost, |a, _| KvValue::array(ValueType::Array, &[a]));
        Gguf::from_bytes(GgufWriter::new().kv("deep", array).to_bytes())
    };
    assert!(nested(4).is_ok());
    let error = nested(5).unwrap_err();
    assert_says(&error, &["deep", "at most 4 levels", "nested 5 deep"]);
    assert!(nested(if cfg!(miri) { 50 } else { 1_000 }).is_err());
}

#[test]
fn messages_show_long_and_unprintable_names_shortened_and_escaped() {
    let name = format!("evil\n\u{1b}[2J{}", "x".repeat(60_000));
    let bytes = GgufWriter::new().kv(&name, 1u8).kv(&name, 1u8).to_bytes();
    let message = Gguf::from_bytes(bytes).unwrap_err().to_string();
    assert!(message.starts_with("evil\\n\\u{1b}[2Jxxx"), "{message}");
    assert!(message.len() < 300 && !message.contains(char::is_control), "{message}");
}

#[test]
fn every_truncation_is_refused_until_only_padding_is_missing() {
    let bytes = every_type().to_bytes();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    let end = gguf.tensors().iter().map(|t| t.offset() as usize + t.n_bytes()).max().unwrap();
    assert!(end < bytes.len(), "the last tensor is padded");
    for len in (0..bytes.len()).step_by(if cfg!(miri) { 211 } else { 1 }) {
        assert_eq!(Gguf::from_bytes(&bytes[..len]).is_ok(), len >= end, "{len} bytes");
    }
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn a_header_beyond_256_mib_is_refused_even_when_the_file_is_as_large() {
    let mut bytes = GgufWriter::new().kv("general.name", "x").to_bytes();
    patch(&mut bytes, "general.name", 4, &(300u64 << 20).to_le_bytes());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sparse.gguf");
    std::fs::write(&path, bytes).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(400 << 20).unwrap();
    let error = Gguf::open(&path).unwrap_err();
    assert_says(&error, &["general.name", "314572800 bytes", "the 256 MiB that a header may have"]);
    std::fs::remove_file(path).unwrap();
}

/// Opens `bytes` and uses what opens; gives the most memory this took at a time.
fn peak_bytes(bytes: &[u8]) -> u64 {
    let info = allocation_counter::measure(|| {
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            exercise(&gguf);
        }
    });
    info.bytes_max
}

#[test]
fn memory_stays_within_a_small_multiple_of_the_file_in_the_worst_case() {
    let n = if cfg!(miri) { 50 } else { 10_000 };
    let empty_arrays = KvValue::array(ValueType::Array, &vec![KvValue::from([0u8; 0]); n]);
    let empty_strings = KvValue::array(ValueType::Array, &vec![KvValue::from([""; 0]); n]);
    let mut many_keys = GgufWriter::new();
    let mut many_tensors = GgufWriter::new();
    for i in 0..n {
        many_keys.kv(&format!("{i:x}"), 1u8);
        many_tensors.tensor(&format!("{i:x}"), &[1], TensorType::I8, vec![0]);
    }
    for (name, bytes) in [
        ("arrays", GgufWriter::new().kv("k", empty_arrays).to_bytes()),
        ("string arrays", GgufWriter::new().kv("k", empty_strings).to_bytes()),
        ("strings", GgufWriter::new().kv("k", vec![""; n]).to_bytes()),
        ("keys", many_keys.to_bytes()),
        ("tensors", many_tensors.to_bytes()),
    ] {
        let peak = peak_bytes(&bytes);
        assert!(peak < 20 * bytes.len() as u64, "{name}: {peak} for {} bytes", bytes.len());
    }
}

/// Values that are often at the edge of something.
fn edge_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u32..64, -2i64..3).prop_map(|(bit, near)| (1u64 << bit).wrapping_add_signed(near)),
        0u64..100,
    ]
}

/// As many cases as `PROPTEST_CASES` says, else 2000.
fn cases() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(2000) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn random_bytes_after_the_magic_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tail);
        prop_assert!(peak_bytes(&bytes) < 100_000);
    }

    #[test]
    fn changed_and_truncated_files_never_panic_nor_take_much_memory(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        keep in any::<prop::sample::Index>(),
        truncate in prop::bool::weighted(0.3),
    ) {
        let mut bytes = every_type().to_bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if truncate {
            bytes.truncate(keep.index(bytes.len()));
        }
        prop_assert!(peak_bytes(&bytes) < 100_000);
    }

    #[test]
    fn integers_at_the_edge_anywhere_never_panic_nor_take_much_memory(
        changes in prop::collection::vec((any::<prop::sample::Index>(), edge_value(), 1usize..9), 1..4),
    ) {
        let mut bytes = every_type().to_bytes();
        for (at, value, width) in changes {
            let at = at.index(bytes.len() - 8);
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        prop_assert!(peak_bytes(&bytes) < 100_000);
    }
}
