//! What the writer puts into a file, the reader finds in it.

mod common;

use proptest::prelude::*;
use realm_gguf::{Array, Error, Gguf, TensorData, TensorType, U32OrArray, Value};
use realm_testkit::gguf_writer::GgufWriter;

fn message(result: Result<impl std::fmt::Debug, Box<Error>>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_value_type_is_read_as_written() {
    let gguf = Gguf::from_bytes(common::every_type().to_bytes()).unwrap();
    let metadata = gguf.metadata();
    let integer = |key| metadata.get(key).unwrap().as_integer().unwrap();
    assert_eq!(integer("u8"), 200);
    assert_eq!(integer("i8"), -100);
    assert_eq!(integer("u16"), 60_000);
    assert_eq!(integer("i16"), -30_000);
    assert_eq!(integer("u32"), 4_000_000_000);
    assert_eq!(integer("i32"), -2_000_000_000);
    assert_eq!(integer("u64"), i128::from(u64::MAX));
    assert_eq!(integer("i64"), i128::from(i64::MIN));
    assert_eq!(metadata.require_f32("f32").unwrap(), 1e-5);
    assert_eq!(metadata.require_f32("f64").unwrap(), 0.5);
    assert!(metadata.require_bool("bool").unwrap());
    assert_eq!(metadata.require_str("string").unwrap(), "größer");
    assert_eq!(metadata.require_f32_array("scores").unwrap(), [0.0, -1.5, f32::MIN]);
    assert_eq!(metadata.require_i32_array("kinds").unwrap(), [3, 1, 6]);
    assert_eq!(metadata.require_bool_array("swa").unwrap(), [true, false, true]);
    assert_eq!(metadata.require_u32_array("layers").unwrap(), [8, 4]);
    let tokens = metadata.require_string_array("tokens").unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), [&b"<s>"[..], b"", "größer".as_bytes()]);
    assert_eq!(tokens.str(2).unwrap(), "größer");
    assert_eq!(metadata.iter().next().unwrap().0, "general.architecture");
}

#[test]
fn nested_arrays_are_read_as_written() {
    let gguf = Gguf::from_bytes(common::every_type().to_bytes()).unwrap();
    let Some(Value::Array(Array::Arrays(arrays))) = gguf.metadata().get("nested") else {
        panic!("an array of arrays");
    };
    let Array::Scalars(numbers) = &arrays[0] else { panic!("numbers") };
    assert_eq!(numbers.iter().map(|v| v.as_integer().unwrap()).collect::<Vec<_>>(), [1, 2]);
    let Array::Strings(strings) = &arrays[1] else { panic!("strings") };
    assert_eq!(strings.iter().collect::<Vec<_>>(), [&b"a"[..], b""]);
    assert!(arrays[2].is_empty());
}

#[test]
fn a_layer_count_may_be_one_number_or_one_per_layer() {
    let gguf = Gguf::from_bytes(common::every_type().to_bytes()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.require_u32_or_array("u8").unwrap(), U32OrArray::One(200));
    let array = metadata.require_u32_or_array("layers").unwrap();
    assert_eq!(array, U32OrArray::Array(vec![8, 4]));
    assert_eq!((array.get(1), array.get(2)), (Some(4), None));
    assert_eq!(U32OrArray::One(7).get(99), Some(7));
}

#[test]
fn a_getter_of_the_wrong_type_names_key_found_and_expected() {
    let gguf = Gguf::from_bytes(common::every_type().to_bytes()).unwrap();
    let metadata = gguf.metadata();
    for (error, expected) in [
        (message(metadata.u32("i8")), "i8: expected an integer of 0 to 4294967295, found i8 -100"),
        (message(metadata.u32("string")), "found string \"größer\""),
        (message(metadata.f32("u32")), "u32: expected an f32, found u32 4000000000"),
        (message(metadata.bool("u8")), "u8: expected a bool, found u8 200"),
        (message(metadata.str("scores")), "scores: expected a string"),
        (message(metadata.str("latin-1")), "found string \"gr\u{fffd}\u{fffd}er\""),
        (message(metadata.u32_array("i32")), "expected an array of numbers, found i32 -2000000000"),
        (message(metadata.u32_array("tokens")), "found array of 3 string"),
        (message(metadata.f32_array("kinds")), "kinds[0]: expected an f32, found i32 3"),
        (message(metadata.bool_array("kinds")), "kinds[0]: expected a bool, found i32 3"),
        (message(metadata.string_array("kinds")), "found array of 3 i32"),
        (message(metadata.u32_or_array("f32")), "f32: expected an integer"),
    ] {
        assert!(error.contains(expected), "\"{expected}\" is not in: {error}");
    }
}

#[test]
fn an_absent_key_is_none_and_an_error_when_required() {
    let gguf = Gguf::from_bytes(common::every_type().to_bytes()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.u32("llama.block_count").unwrap(), None);
    assert!(metadata.string_array("x").unwrap().is_none());
    let error = message(metadata.require_u32("llama.block_count"));
    assert_eq!(error, "llama.block_count: expected an integer, found no such key in the file");
    let error = message(gguf.require_tensor("output.weight"));
    assert_eq!(error, "output.weight: expected a tensor, found no such tensor in the file");
    assert!(gguf.tensor("output.weight").is_none());
}

#[test]
fn a_token_that_is_not_utf8_loads_and_is_refused_only_as_text() {
    use realm_gguf::ValueType;
    use realm_testkit::gguf_writer::KvValue;
    let tokens =
        KvValue::array(ValueType::String, &[KvValue::string(b"ok"), KvValue::string(b"\xe2\x82")]);
    let gguf = Gguf::from_bytes(GgufWriter::new().kv("tokens", tokens).to_bytes()).unwrap();
    let tokens = gguf.metadata().require_string_array("tokens").unwrap();
    assert_eq!(tokens.bytes(1), b"\xe2\x82");
    assert!(message(tokens.str(1)).starts_with("tokens[1]: expected valid UTF-8"));
}

#[test]
fn both_versions_and_other_alignments_are_read() {
    for (version, alignment) in [(2, 8), (3, 64), (3, 4096)] {
        let mut writer = common::every_type();
        let gguf =
            Gguf::from_bytes(writer.version(version).alignment(alignment).to_bytes()).unwrap();
        assert_eq!((gguf.version(), gguf.alignment()), (version, alignment));
        let q = gguf.require_tensor("blk.0.attn_q.weight").unwrap();
        assert_eq!(q.bytes(), (0..68).collect::<Vec<u8>>());
        assert!(gguf.tensors().iter().all(|t| t.offset().is_multiple_of(alignment.into())));
    }
}

#[test]
fn rows_of_a_tensor_are_a_tensor_of_those_rows() {
    let gguf = Gguf::from_bytes(common::every_type().to_bytes()).unwrap();
    let q = gguf.require_tensor("blk.0.attn_q.weight").unwrap();
    assert_eq!((q.row_len(), q.n_rows(), q.row_bytes()), (32, 2, 34));
    let second = q.rows(1..2).unwrap();
    assert_eq!(second.shape(), [32, 1]);
    assert_eq!(second.bytes(), (34..68).collect::<Vec<u8>>());
    assert_eq!(second.rows(0..1).unwrap().bytes(), second.bytes());
    assert_eq!(q.rows(1..1).unwrap().n_rows(), 0);
    let error = message(q.rows(1..3));
    assert_eq!(error, "blk.0.attn_q.weight: expected rows within 0 to 2, found rows 1 to 3");
}

#[test]
fn experts_of_a_three_dimensional_tensor_are_ranges_of_rows() {
    let tensor = TensorData::from_vec("e", &[2, 3, 4], TensorType::I8, (0..24).collect()).unwrap();
    assert_eq!(tensor.n_rows(), 12);
    assert_eq!(tensor.rows(3..6).unwrap().bytes(), [6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_tensor_made_of_bytes_must_have_the_bytes_of_its_shape() {
    let make = |shape: &[usize], n| TensorData::from_vec("t", shape, TensorType::Q4_0, vec![0; n]);
    assert!(make(&[64, 3], 108).is_ok());
    assert!(message(make(&[64, 3], 107)).contains("108 bytes for Q4_0 [64, 3], found 107 bytes"));
    assert!(message(make(&[48], 27)).contains("whole Q4_0 blocks of 32 values"));
    assert!(message(make(&[], 0)).contains("0 dimensions"));
    assert!(message(make(&[32, 0], 0)).contains("no dimension of 0"));
    assert!(message(make(&[32, usize::MAX, 2], 0)).contains("values and bytes"));
    // Its bytes could be counted, its values could not.
    let many =
        TensorData::from_vec("t", &[128, 1 << (usize::BITS - 8)], TensorType::Q1_0, Vec::new());
    assert!(message(many).contains("values and bytes"));
}

proptest! {
    #[test]
    fn numbers_strings_and_tensors_survive(
        integers in prop::collection::vec(any::<u32>(), 0..50),
        texts in prop::collection::vec(".{0,12}", 0..50),
        rows in 1usize..5,
        blocks in 1usize..4,
        ty in prop::sample::select(TensorType::all().collect::<Vec<_>>()),
        seed in any::<u8>(),
    ) {
        let n_bytes = rows * blocks * ty.block_bytes();
        let data: Vec<u8> = (0..n_bytes).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        let bytes = GgufWriter::new()
            .kv("integers", integers.clone())
            .kv("texts", texts.clone())
            .tensor("first", &[1], TensorType::I8, vec![seed])
            .tensor("second", &[blocks * ty.block_len(), rows], ty, data.clone())
            .to_bytes();
        let gguf = Gguf::from_bytes(bytes).unwrap();
        prop_assert_eq!(gguf.metadata().require_u32_array("integers").unwrap(), integers);
        let found = gguf.metadata().require_string_array("texts").unwrap();
        prop_assert_eq!(found.len(), texts.len());
        for (i, text) in texts.iter().enumerate() {
            prop_assert_eq!(found.str(i).unwrap(), text);
        }
        let tensor = gguf.require_tensor("second").unwrap();
        prop_assert_eq!(tensor.ty(), ty);
        prop_assert_eq!(tensor.bytes(), data);
        let first = gguf.require_tensor("first").unwrap();
        prop_assert_eq!(first.bytes(), [seed]);
    }
}
