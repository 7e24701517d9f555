//! Models split into several files.

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use common::every_type;
use realm_gguf::{Error, Gguf, TensorType};
use realm_testkit::gguf_writer::GgufWriter;

/// Writes the parts of a model into a fresh folder and gives their paths.
fn written(test: &str, parts: &[Vec<u8>]) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let write = |(i, bytes)| {
        let path = folder.join(format!("tiny-Q8_0-{:05}-of-{:05}.gguf", i + 1, parts.len()));
        fs::write(&path, bytes).unwrap();
        path
    };
    parts.iter().enumerate().map(write).collect()
}

fn shared(parts: Vec<Vec<u8>>) -> Vec<Arc<[u8]>> {
    parts.into_iter().map(Into::into).collect()
}

#[track_caller]
fn assert_same_model(split: &Gguf, whole: &Gguf) {
    assert_eq!(split.tensors().len(), whole.tensors().len());
    for (a, b) in split.tensors().iter().zip(whole.tensors()) {
        assert_eq!((a.name(), a.shape(), a.ty()), (b.name(), b.shape(), b.ty()));
        let (a, b) = (split.tensor(a.name()).unwrap(), whole.tensor(b.name()).unwrap());
        assert_eq!(a.bytes(), b.bytes());
    }
    for (key, value) in whole.metadata().iter() {
        let found = split.metadata().get(key).unwrap_or_else(|| panic!("{key} is there"));
        assert_eq!(found.value_type(), value.value_type());
    }
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn any_part_of_a_split_model_opens_all_of_it() {
    let whole = Gguf::from_bytes(every_type().to_bytes()).unwrap();
    for n in [2, 3] {
        let parts = every_type().to_split_bytes(n);
        let n_bytes: usize = parts.iter().map(Vec::len).sum();
        for path in written(&format!("any-part-{n}"), &parts) {
            let split = Gguf::open(path).unwrap();
            assert_same_model(&split, &whole);
            assert_eq!(split.file_bytes(), n_bytes as u64);
            assert_eq!(split.tensors().last().unwrap().part(), usize::from(n) - 1);
        }
    }
}

#[test]
fn parts_in_memory_open_in_order() {
    let whole = Gguf::from_bytes(every_type().to_bytes()).unwrap();
    let parts = shared(every_type().to_split_bytes(3));
    assert_same_model(&Gguf::from_parts(parts).unwrap(), &whole);
    let one = shared(vec![every_type().to_bytes()]);
    assert_same_model(&Gguf::from_parts(one).unwrap(), &whole);
}

#[test]
fn parts_may_have_an_alignment_of_their_own() {
    let mut writer = every_type();
    writer.alignment(128);
    let whole = Gguf::from_bytes(writer.to_bytes()).unwrap();
    let split = Gguf::from_parts(shared(writer.to_split_bytes(2))).unwrap();
    assert_same_model(&split, &whole);
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn a_missing_part_is_named() {
    let paths = written("missing", &every_type().to_split_bytes(3));
    fs::remove_file(&paths[1]).unwrap();
    let error = Gguf::open(&paths[0]).unwrap_err();
    assert!(matches!(&*error, Error::NotFound { path, .. } if *path == paths[1]), "{error}");
    assert!(error.to_string().ends_with("-00002-of-00003.gguf: part 2 of 3 not found"), "{error}");
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn a_part_in_the_place_of_another_is_refused() {
    let mut parts = every_type().to_split_bytes(3);
    parts.swap(1, 2);
    let expected = "part 2 of 3: split.no: expected 1, found 2";
    let paths = written("swapped", &parts);
    assert_eq!(Gguf::open(&paths[0]).unwrap_err().to_string(), expected);
    assert_eq!(Gguf::from_parts(shared(parts)).unwrap_err().to_string(), expected);
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn a_part_of_another_set_is_refused() {
    let mut parts = every_type().to_split_bytes(3);
    parts[2] = every_type().kv("more", 1u8).to_split_bytes(4).swap_remove(2);
    let error = Gguf::open(&written("another-set", &parts)[0]).unwrap_err();
    assert_eq!(error.to_string(), "part 3 of 3: split.count: expected 3, found 4");
}

#[test]
fn a_wrong_number_of_parts_is_refused() {
    let mut parts = shared(every_type().to_split_bytes(3));
    parts.pop();
    let error = Gguf::from_parts(parts.clone()).unwrap_err().to_string();
    assert_eq!(error, "split.count: expected 3 file(s), found 2 file(s)");
    let error = Gguf::from_bytes(parts[0].clone()).unwrap_err().to_string();
    assert_eq!(error, "split.count: expected 3 file(s), found 1 file(s)");
    let whole: Arc<[u8]> = every_type().to_bytes().into();
    let error = Gguf::from_parts(vec![whole.clone(), whole]).unwrap_err().to_string();
    assert_eq!(error, "split.count: expected 1 file(s), found 2 file(s)");
    assert!(Gguf::from_parts(Vec::new()).is_err());
}

#[test]
fn tensors_that_do_not_add_up_or_come_twice_are_refused() {
    let mut parts = every_type().to_split_bytes(3);
    let no = common::find(&parts[0], b"split.tensors.count") + "split.tensors.count".len() + 4;
    parts[0][no] = 4;
    let error = Gguf::from_parts(shared(parts)).unwrap_err().to_string();
    assert!(error.starts_with("split.tensors.count: expected 4 tensors, found 3"), "{error}");

    let parts = GgufWriter::new()
        .tensor("t", &[1], TensorType::I8, vec![1])
        .tensor("t", &[1], TensorType::I8, vec![2])
        .to_split_bytes(2);
    let error = Gguf::from_parts(shared(parts)).unwrap_err().to_string();
    assert_eq!(error, "t: expected each tensor once, found the tensor a second time");
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn a_part_under_another_name_says_what_it_should_be_called() {
    let paths = written("renamed", &every_type().to_split_bytes(2));
    let renamed = paths[0].with_file_name("model.gguf");
    fs::rename(&paths[0], &renamed).unwrap();
    let error = Gguf::open(renamed).unwrap_err().to_string();
    assert!(error.contains("the file is named \"model.gguf\""), "{error}");
    assert!(error.contains("NAME-00001-of-00002.gguf"), "{error}");
}

#[test]
#[cfg_attr(miri, ignore = "maps a file, which Miri cannot")]
fn what_is_not_a_file_is_refused_with_its_path() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let error = Gguf::open(&folder).unwrap_err();
    assert!(matches!(&*error, Error::Io { .. }), "{error}");
    assert!(error.to_string().ends_with("model file is not a regular file"), "{error}");
    let error = Gguf::open(folder.join("absent.gguf")).unwrap_err();
    assert!(error.to_string().ends_with("absent.gguf: model file not found"), "{error}");
    let empty = folder.join("empty.gguf");
    fs::write(&empty, b"").unwrap();
    let error = Gguf::open(empty).unwrap_err().to_string();
    assert!(error.starts_with("file header: expected 4 bytes, found 0 bytes"), "{error}");
}
