//! The conformance kit's files: those that are right load, those whose container
//! is broken are refused.

mod common;

use std::collections::BTreeSet;

use realm_gguf::{Error, Gguf, TensorType};
use realm_testkit::kit;

/// The cases of kind `malformed` that the container itself must refuse. The
/// others are wrong in what the metadata or tensors mean for a model.
const REFUSED_BY_THE_CONTAINER: &[&str] = &[
    "empty",
    "magic-only",
    "bad-version-99",
    "truncated-header",
    "truncated-kv-array",
    "truncated-data",
    "n-kv-huge",
    "n-tensors-huge",
    "string-length-max",
    "array-u64-overflow",
    "array-nested-wide",
    "array-type-unknown",
    "key-invalid-utf8",
    "alignment-not-power-of-two",
    "offset-overflow",
    "offset-overlap",
    "dims-product-overflow",
    "dims-negative",
    "n-dims-zero",
    "n-dims-huge",
    "type-removed",
    "tensor-name-empty",
];

#[test]
fn malformed_files_are_refused_or_safe_to_use() {
    let mut refused = BTreeSet::new();
    for case in kit::cases("malformed") {
        let name = case["id"].as_str().unwrap().strip_prefix("malformed/").unwrap().to_owned();
        match Gguf::from_bytes(kit::read_maybe_gz(case["file"].as_str().unwrap())) {
            Ok(gguf) => common::exercise(&gguf),
            Err(error) => {
                assert_ne!(case["expect"], "loads", "{name}: {error}");
                assert!(
                    matches!(*error, Error::Invalid { .. } | Error::Unsupported { .. }),
                    "{name}: {error}"
                );
                refused.insert(name);
            }
        }
    }
    let expected: BTreeSet<String> =
        REFUSED_BY_THE_CONTAINER.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(refused, expected);
}

#[test]
fn refusals_name_the_key_or_tensor_and_both_values() {
    for (file, parts) in [
        ("bad-version-99", &["GGUF version 99", "version 2 or 3"][..]),
        ("type-removed", &["blk.0.attn_q.weight", "type id 4 (Q4_2, removed from GGUF)"]),
        ("alignment-not-power-of-two", &["general.alignment", "a power of two", "found 7"]),
        ("array-type-unknown", &["value type 77", "0 to 12"]),
        ("n-dims-huge", &["4294967295 dimensions", "1 to 4"]),
        ("n-tensors-huge", &["tensor count", "1152921504606846976 items"]),
        ("key-invalid-utf8", &["metadata key", "UTF-8"]),
        ("offset-overlap", &["shares bytes with", "token_embd.weight"]),
        ("truncated-data", &["inside the file", "60920 bytes"]),
    ] {
        let bytes = kit::read_maybe_gz(&format!("malformed/{file}.gguf"));
        let error = Gguf::from_bytes(bytes).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{file}: \"{part}\" is not in: {error}");
        }
    }
}

#[test]
fn every_model_of_the_kit_loads() {
    let files = ["logits", "quant-logits", "embedding", "tokenizer"].into_iter().flat_map(|kind| {
        let key = if kind == "tokenizer" { "vocab" } else { "model" };
        kit::cases(kind).into_iter().map(move |case| case[key].as_str().unwrap().to_owned())
    });
    for file in files.collect::<BTreeSet<_>>() {
        let gguf = Gguf::from_bytes(kit::read_maybe_gz(&file))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(gguf.version(), 3, "{file}");
        assert!(!gguf.metadata().require_str("general.architecture").unwrap().is_empty());
        common::exercise(&gguf);
    }
}

#[test]
fn vocabularies_have_as_many_tokens_as_the_index_says() {
    for case in kit::cases("tokenizer") {
        let Some(n_vocab) = case["measured"]["n_vocab"].as_u64() else { continue };
        let gguf = Gguf::from_bytes(kit::read_maybe_gz(case["vocab"].as_str().unwrap())).unwrap();
        let tokens = gguf.metadata().require_string_array("tokenizer.ggml.tokens").unwrap();
        assert_eq!(tokens.len() as u64, n_vocab, "{}", case["id"]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn a_mapped_file_equals_the_same_file_in_memory() {
    let relative = "quant-models/llama-Q4_K_M.gguf";
    let mapped = Gguf::open(kit::path().join(relative)).unwrap();
    let held = Gguf::from_bytes(kit::read_maybe_gz(relative)).unwrap();
    assert_eq!(mapped.file_bytes(), held.file_bytes());
    assert_eq!(mapped.tensors().len(), held.tensors().len());
    for info in held.tensors() {
        let (a, b) = (mapped.tensor(info.name()).unwrap(), held.tensor(info.name()).unwrap());
        assert_eq!((a.shape(), a.ty(), a.bytes()), (b.shape(), b.ty(), b.bytes()));
    }
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn tensor_data_outlives_the_model_it_came_from() {
    let file = kit::path().join("quant-models/llama-Q8_0.gguf");
    let gguf = Gguf::open(&file).unwrap();
    let info = gguf.tensors()[0].clone();
    let tensor = gguf.tensor(info.name()).unwrap();
    drop(gguf);
    let start = info.offset() as usize;
    let on_disk = std::fs::read(file).unwrap();
    assert_eq!(tensor.bytes(), &on_disk[start..start + info.n_bytes()]);
}

#[test]
fn type_ids_and_block_sizes_are_those_of_the_reference() {
    for case in kit::cases("dequant") {
        let number = |key: &str| case[key].as_u64().unwrap();
        let ty = TensorType::from_id(number("ggml_type_id") as u32).unwrap();
        assert_eq!(ty.name(), case["ggml_type"]);
        assert_eq!(ty.block_len() as u64, number("block_size"), "{ty}");
        assert_eq!(ty.block_bytes() as u64, number("block_bytes"), "{ty}");
    }
}
