//! The conformance kit: reference data made outside this project.
//!
//! Found through the environment variable `REALM_CONFORMANCE_KIT`, else as
//! `shared/conformance` beside the checkout. Its `README.md` says where each
//! value comes from. Test code: what is missing or broken panics with a sentence.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

/// The kit's folder.
pub fn path() -> PathBuf {
    let path = std::env::var_os("REALM_CONFORMANCE_KIT").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    );
    assert!(
        path.join("index.json").is_file(),
        "no conformance kit at {}: put it there or set REALM_CONFORMANCE_KIT to its folder",
        path.display()
    );
    path
}

/// The cases of one kind, such as `logits`, as they are in `index.json`.
pub fn cases(kind: &str) -> Vec<Value> {
    let Value::Array(mut cases) = json("index.json")["cases"].take() else {
        panic!("the conformance kit's index.json has no list of cases");
    };
    cases.retain(|case| case["kind"] == kind);
    assert!(!cases.is_empty(), "the conformance kit has no case of kind {kind}");
    cases
}

/// The bytes of the file at `relative` in the kit, unpacked if its name ends in `.gz`.
pub fn read_maybe_gz(relative: &str) -> Vec<u8> {
    let path = path().join(relative);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if !relative.ends_with(".gz") {
        return bytes;
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(&bytes[..])
        .read_to_end(&mut unpacked)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    unpacked
}

/// The JSON file at `relative` in the kit.
pub fn json(relative: &str) -> Value {
    serde_json::from_slice(&read_maybe_gz(relative))
        .unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The values of a raw little-endian `.f32` file.
pub fn f32_file(relative: &str) -> Vec<f32> {
    f32_values(&read_maybe_gz(relative), relative)
}

/// Shape (outermost dimension first) and values of an `.npy` file of version 1.0,
/// little-endian f32, C order.
///
/// Format: NumPy's `numpy.lib.format`.
pub fn npy_f32(relative: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = read_maybe_gz(relative);
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"), "{relative} is not an npy file of version 1");
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) = bytes[10..].split_at(header_len);
    let header = std::str::from_utf8(header).expect("npy headers are ASCII");
    assert!(
        header.contains("'descr': '<f4'") && header.contains("'fortran_order': False"),
        "{relative} is not little-endian f32 in C order: {header}"
    );
    let (_, after) = header.split_once("'shape': (").expect("an npy header has a shape");
    let (dims, _) = after.split_once(')').expect("an npy shape is a tuple");
    let shape: Vec<usize> = dims
        .split(',')
        .map(str::trim)
        .filter(|dim| !dim.is_empty())
        .map(|dim| dim.parse().expect("an npy dimension is a number"))
        .collect();
    let values = f32_values(data, relative);
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{relative}: values for {shape:?}");
    (shape, values)
}

fn f32_values(bytes: &[u8], relative: &str) -> Vec<f32> {
    assert!(bytes.len().is_multiple_of(4), "{relative} is not a whole number of f32 values");
    bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_shapes_agree_with_the_token_counts_of_the_index() {
        for case in cases("quant-logits") {
            let (shape, values) = npy_f32(case["expected"].as_str().unwrap());
            assert_eq!(shape[0] as u64, case["n_prompt"].as_u64().unwrap(), "{}", case["id"]);
            assert!(values.iter().all(|value| value.is_finite()), "{}", case["id"]);
        }
    }

    #[test]
    fn dequantised_vectors_have_the_rows_and_columns_of_the_index() {
        for case in cases("dequant") {
            let n = case["rows"].as_u64().unwrap() * case["cols"].as_u64().unwrap();
            assert_eq!(f32_file(case["expected"].as_str().unwrap()).len() as u64, n);
        }
    }
}
