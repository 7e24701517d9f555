//! Files that are read piece by piece.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::every_type;
use proptest::prelude::*;
use realm_gguf::{Error, Gguf, ReadAt, TensorType};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};

/// A file in memory that counts what is read of it.
#[derive(Default)]
struct Watched {
    bytes: Vec<u8>,
    /// What it says its length is, where that is not the truth.
    claimed: Option<u64>,
    n_read: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl ReadAt for Watched {
    fn n_bytes(&self) -> u64 {
        self.claimed.unwrap_or(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        if let Some(failure) = self.failure.lock().unwrap().clone() {
            return Err(failure);
        }
        self.n_read.fetch_add(out.len() as u64, Ordering::Relaxed);
        // What a claim promises and is not there reads as zeros.
        let there = self.bytes.get(offset as usize..).unwrap_or_default();
        let n = there.len().min(out.len());
        out[..n].copy_from_slice(&there[..n]);
        Ok(())
    }
}

fn watched(bytes: Vec<u8>) -> Arc<Watched> {
    Arc::new(Watched { bytes, ..Watched::default() })
}

fn open(file: &Arc<Watched>) -> realm_gguf::Result<Gguf> {
    Gguf::from_remote(vec![file.clone()])
}

#[test]
fn a_remote_file_reads_as_one_in_memory() {
    let bytes = every_type().to_bytes();
    let held = Gguf::from_bytes(bytes.clone()).unwrap();
    let remote = open(&watched(bytes.clone())).unwrap();
    assert_eq!(remote.file_bytes(), bytes.len() as u64);
    assert_eq!(remote.tensors().len(), held.tensors().len());
    for info in held.tensors() {
        let (there, here) =
            (remote.tensor(info.name()).unwrap(), held.tensor(info.name()).unwrap());
        assert_eq!(
            (there.shape(), there.ty(), there.n_bytes()),
            (here.shape(), here.ty(), here.n_bytes())
        );
        assert!(there.bytes().is_empty(), "nothing is in memory before it is fetched");
        assert_eq!(there.fetch().unwrap().bytes(), here.bytes());
        let part = 1..there.n_bytes() - 1;
        assert_eq!(there.read(part.clone()).unwrap(), here.read(part).unwrap());
        assert!(there.read(0..there.n_bytes() + 1).is_err());
        let rows = there.n_rows() / 2..there.n_rows();
        let (there, here) = (there.rows(rows.clone()).unwrap(), here.rows(rows).unwrap());
        assert_eq!(there.fetch().unwrap().bytes(), here.bytes(), "some rows of {}", info.name());
    }
}

#[test]
fn parts_of_a_split_model_are_read_like_one_file() {
    let whole = Gguf::from_bytes(every_type().to_bytes()).unwrap();
    let parts = every_type().to_split_bytes(3);
    let parts: Vec<Arc<dyn ReadAt>> =
        parts.into_iter().map(|bytes| watched(bytes) as Arc<dyn ReadAt>).collect();
    let split = Gguf::from_remote(parts.clone()).unwrap();
    assert_eq!(split.header_bytes().len(), 3);
    for info in whole.tensors() {
        let there = split.tensor(info.name()).unwrap().fetch().unwrap();
        assert_eq!(there.bytes(), whole.tensor(info.name()).unwrap().bytes());
    }
    let error = Gguf::from_remote(parts[1..].to_vec()).unwrap_err();
    assert!(matches!(*error, Error::Invalid { .. }), "{error}");
}

/// A model of many MiB whose header is small, or whose header is large.
fn large(header_bytes: usize) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", KvValue::string(b"test"));
    writer.kv("long", KvValue::string(&vec![b'x'; header_bytes]));
    writer.tensor_f32("weight", &[1024, 6 * 1024], TensorType::F32, &vec![1.0; 6 << 20]);
    writer.to_bytes()
}

#[test]
#[cfg_attr(miri, ignore = "reads megabytes, for minutes")]
fn opening_reads_the_header_and_not_the_tensors() {
    let file = watched(large(10));
    let gguf = open(&file).unwrap();
    let n_read = file.n_read.load(Ordering::Relaxed);
    assert!(n_read <= 2 << 20, "{n_read} bytes of {} were read", file.bytes.len());
    assert!(gguf.header_bytes()[0] < 1000, "{:?}", gguf.header_bytes());

    let file = watched(large(20 << 20));
    let gguf = open(&file).unwrap();
    let n_read = file.n_read.load(Ordering::Relaxed);
    assert!(n_read <= 25 << 20, "{n_read} bytes were read for a header of 20 MiB");
    assert_eq!(gguf.metadata().str("long").unwrap().unwrap().len(), 20 << 20);
}

#[test]
fn the_first_header_bytes_are_all_that_a_second_opening_needs() {
    let bytes = every_type().to_bytes();
    let n_bytes = open(&watched(bytes.clone())).unwrap().header_bytes()[0] as usize;
    let claimed = Some(bytes.len() as u64);
    let head = Watched { bytes: bytes[..n_bytes].to_vec(), claimed, ..Watched::default() };
    let gguf = open(&Arc::new(head)).unwrap();
    assert_eq!(gguf.tensors().len(), Gguf::from_bytes(bytes).unwrap().tensors().len());
}

#[test]
#[cfg_attr(miri, ignore = "reads megabytes, for minutes")]
fn a_count_that_the_file_cannot_hold_is_refused_without_reading_on() {
    let mut bytes = GgufWriter::new().to_bytes();
    bytes.resize(8 << 20, 0);
    // The number of keys follows magic, version and the number of tensors.
    bytes[16..24].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    let file = watched(bytes);
    let error = open(&file).unwrap_err();
    assert!(matches!(*error, Error::Invalid { .. }), "{error}");
    assert!(file.n_read.load(Ordering::Relaxed) <= 2 << 20);
}

#[test]
fn a_file_that_cannot_be_read_says_which_part_and_why() {
    let file = watched(every_type().to_bytes());
    let gguf = open(&file).unwrap();
    *file.failure.lock().unwrap() = Some("the disk is gone".into());
    let tensor = gguf.tensor(gguf.tensors()[0].name()).unwrap();
    let error = tensor.fetch().unwrap_err();
    assert!(matches!(*error, Error::Unreadable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(tensor.name()) && text.contains("the disk is gone"), "{text}");
    assert!(matches!(*open(&file).unwrap_err(), Error::Unreadable { .. }));
}

proptest! {
    /// Whether a damaged or cut file opens, and why not, does not depend on how it is read.
    #[test]
    fn damage_is_found_in_remote_files_as_in_held_ones(
        at in 0usize..4096,
        value: u8,
        cut in 0usize..4096,
    ) {
        let mut bytes = every_type().to_bytes();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(bytes.len() - cut % bytes.len());
        let (held, remote) = (Gguf::from_bytes(bytes.clone()), open(&watched(bytes)));
        match (held, remote) {
            (Ok(held), Ok(remote)) => prop_assert_eq!(held.tensors().len(), remote.tensors().len()),
            (Err(held), Err(remote)) => prop_assert_eq!(held.to_string(), remote.to_string()),
            (held, remote) => prop_assert!(false, "{:?} and {:?}", held, remote),
        }
    }
}
