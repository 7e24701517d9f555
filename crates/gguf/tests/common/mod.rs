//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use realm_gguf::{Array, Gguf, TensorType, Value, ValueType};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};

/// A small model with every value type and several tensor types.
pub fn every_type() -> GgufWriter {
    let nested = KvValue::array(
        ValueType::Array,
        &[KvValue::from([1u16, 2]), KvValue::from(["a", ""]), KvValue::from([0u8; 0])],
    );
    let mut writer = GgufWriter::new();
    writer
        .kv("general.architecture", "llama")
        .kv("u8", 200u8)
        .kv("i8", -100i8)
        .kv("u16", 60_000u16)
        .kv("i16", -30_000i16)
        .kv("u32", 4_000_000_000u32)
        .kv("i32", -2_000_000_000i32)
        .kv("f32", 1e-5f32)
        .kv("bool", true)
        .kv("string", "größer")
        .kv("u64", u64::MAX)
        .kv("i64", i64::MIN)
        .kv("f64", 0.5f64)
        .kv("latin-1", KvValue::string(b"gr\xf6\xdfer"))
        .kv("tokens", ["<s>", "", "größer"])
        .kv("scores", [0.0f32, -1.5, f32::MIN])
        .kv("kinds", [3i32, 1, 6])
        .kv("layers", [8u8, 4])
        .kv("swa", [true, false, true])
        .kv("nested", nested)
        .tensor_f32("token_embd.weight", &[4, 3], TensorType::F32, &[0.5; 12])
        .tensor("blk.0.attn_q.weight", &[32, 2], TensorType::Q8_0, (0..68).collect())
        .tensor_f32("blk.0.attn_norm.weight", &[5], TensorType::F16, &[1.0; 5]);
    writer
}

/// Touches everything a user can reach: a broken file that opens must still be
/// safe to use.
pub fn exercise(gguf: &Gguf) {
    let metadata = gguf.metadata();
    for (key, value) in metadata.iter() {
        let _ = (metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key));
        let _ = (metadata.u32_array(key), metadata.i32_array(key), metadata.f32_array(key));
        let _ = (metadata.bool_array(key), metadata.u32_or_array(key), metadata.str(key));
        if let Ok(Some(strings)) = metadata.string_array(key) {
            for (i, bytes) in strings.iter().enumerate() {
                assert_eq!(strings.str(i).is_ok(), std::str::from_utf8(bytes).is_ok());
            }
        }
        if let Value::Array(array) = value {
            walk(array);
        }
    }
    for info in gguf.tensors() {
        let tensor = gguf.require_tensor(info.name()).expect("a listed tensor can be had");
        assert_eq!(tensor.bytes().len(), info.n_bytes());
        assert_eq!(tensor.bytes().len(), tensor.n_rows() * tensor.row_bytes());
        let last = tensor.rows(tensor.n_rows() - 1..tensor.n_rows()).expect("it has a last row");
        assert_eq!(last.bytes(), &tensor.bytes()[tensor.bytes().len() - tensor.row_bytes()..]);
    }
}

fn walk(array: &Array) {
    match array {
        Array::Scalars(items) => assert_eq!(items.iter().count(), array.len()),
        Array::Strings(items) => assert_eq!(items.iter().count(), array.len()),
        Array::Arrays(items) => items.iter().for_each(walk),
    }
}

/// Where `needle` begins in `bytes`; it must be there once.
pub fn find(bytes: &[u8], needle: &[u8]) -> usize {
    let mut places = bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle);
    let (place, _) = places.next().expect("the needle is in the bytes");
    assert!(places.next().is_none(), "the needle is there more than once");
    place
}
