//! The container: header, metadata, tensor index, split files.

use std::sync::Arc;

use realm_gguf::{Array, Gguf, Value};

/// Opens a file and touches everything a caller can reach.
///
/// What follows a further `GGUF` in the bytes is a further part of a split file.
pub fn gguf(bytes: &[u8]) {
    if let Ok(gguf) = Gguf::from_parts(parts(bytes)) {
        walk_metadata(&gguf);
        walk_tensors(&gguf);
    }
}

fn parts(bytes: &[u8]) -> Vec<Arc<[u8]>> {
    const MAGIC: &[u8] = b"GGUF";
    let mut starts: Vec<usize> = bytes
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, w)| *w == MAGIC)
        .map(|(i, _)| i)
        .collect();
    if starts.first() != Some(&0) {
        starts.insert(0, 0);
    }
    let ends = starts[1..].iter().copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| bytes[*start..end].into()).collect()
}

fn walk_metadata(gguf: &Gguf) {
    let metadata = gguf.metadata();
    for (key, value) in metadata.iter() {
        let _ = (metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key));
        let _ = (metadata.u32_array(key), metadata.i32_array(key), metadata.f32_array(key));
        let _ = (metadata.bool_array(key), metadata.u32_or_array(key), metadata.str(key));
        if let Value::Array(array) = value {
            walk_array(array);
        }
    }
}

fn walk_array(array: &Array) {
    match array {
        Array::Scalars(items) => assert_eq!(items.iter().count(), array.len()),
        Array::Strings(items) => {
            for (i, bytes) in items.iter().enumerate() {
                assert_eq!(items.str(i).is_ok(), std::str::from_utf8(bytes).is_ok());
            }
        }
        Array::Arrays(items) => items.iter().for_each(walk_array),
    }
}

fn walk_tensors(gguf: &Gguf) {
    for info in gguf.tensors() {
        let tensor = gguf.require_tensor(info.name()).expect("a listed tensor can be had");
        assert_eq!(tensor.bytes().len(), info.n_bytes());
        assert_eq!(tensor.bytes().len(), tensor.n_rows() * tensor.row_bytes());
        let last = tensor.rows(tensor.n_rows() - 1..tensor.n_rows()).expect("it has a last row");
        assert_eq!(last.bytes().len(), tensor.row_bytes());
    }
}
