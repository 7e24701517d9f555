//! What loading takes of memory: settled before it begins, and within a limit.

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use realm_engine::load::Watcher;
use realm_engine::model::{ModelHandle, Source};
use realm_engine::{Coded, Error, ErrorCode, LoadOptions, ModelInfo};
use realm_gguf::TensorType;
use realm_ir::{KvType, WeightLayout};
use realm_quant::Level;
use support::{bundled, choice};

/// The bundled model in memory, where a copy of its matrices comes on top of them.
fn bytes() -> Source {
    Source::Bytes(vec![Arc::from(std::fs::read(bundled()).unwrap())])
}

fn load_from(source: Source, options: &LoadOptions) -> Result<ModelInfo, Error> {
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    ModelHandle::load(source, options, &[choice(Default::default())], watcher)?.info()
}

fn load(layout: WeightLayout, memory_limit: Option<u64>) -> Result<ModelInfo, Error> {
    load_from(bytes(), &LoadOptions { layout, memory_limit, ..LoadOptions::default() })
}

/// Whether there are kernels that read copies of the bundled model's matrices: plain code, which
/// is all that some processors have, reads them as they are.
fn copies_are_of_use() -> bool {
    realm_quant::format(TensorType::Q8_0).unwrap().packed_kernel(Level::best()).is_some()
}

#[test]
fn a_model_that_needs_more_is_refused_whatever_the_layout() {
    let mapped = load(WeightLayout::Mapped, None).unwrap().memory.total();
    for layout in [WeightLayout::Auto, WeightLayout::Mapped, WeightLayout::Packed] {
        let error = load(layout, Some(mapped - 1)).err().unwrap();
        assert_eq!(error.code(), ErrorCode::OutOfMemory);
        let message = error.to_string();
        assert!(message.contains(&format!("leaves {}", mapped - 1)), "{message}");
        if layout != WeightLayout::Packed {
            assert!(message.contains(&format!("needs {mapped} bytes")), "{message}");
        }
    }
    load(WeightLayout::Mapped, Some(mapped)).unwrap();
}

#[test]
fn copies_are_made_only_as_far_as_the_limit_allows() {
    let info = load(WeightLayout::Packed, None).unwrap();
    if !copies_are_of_use() {
        assert_eq!((info.layout.as_str(), info.packed_bytes, info.memory.copies), ("mapped", 0, 0));
        return;
    }
    let packed = info.memory.total();
    assert_eq!(load(WeightLayout::Packed, Some(packed)).unwrap().layout, "packed");
    let error = load(WeightLayout::Packed, Some(packed - 1)).err().unwrap();
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
    assert!(error.to_string().contains("packed copies"), "{error}");
    let info = load(WeightLayout::Auto, Some(packed - 1)).unwrap();
    assert_eq!((info.layout.as_str(), info.packed_bytes), ("mapped", 0));
}

#[test]
fn of_a_mapped_file_what_was_copied_counts_once() {
    let of_file = |layout| {
        let options = LoadOptions { layout, ..LoadOptions::default() };
        load_from(Source::Path(bundled()), &options).unwrap()
    };
    let (mapped, packed) = (of_file(WeightLayout::Mapped), of_file(WeightLayout::Packed));
    if !copies_are_of_use() {
        assert_eq!(packed.memory, mapped.memory);
        return;
    }
    assert!(packed.memory.copies > mapped.memory.weights / 2, "most of it is matrices");
    // The embedding is the output matrix as well: rows of it are read from the file, too.
    assert!(packed.memory.weights < mapped.memory.weights);
    let in_memory = |layout| load(layout, None).unwrap().memory;
    let (unpacked, copied) = (in_memory(WeightLayout::Mapped), in_memory(WeightLayout::Packed));
    assert_eq!((copied.weights, copied.copies), (unpacked.weights, packed.memory.copies));
}

#[test]
fn an_estimate_is_what_loading_says_it_takes() {
    let options = |layout, kv_type, max_sequences| LoadOptions {
        layout,
        kv_type,
        max_sequences,
        ..LoadOptions::default()
    };
    let all = [
        options(WeightLayout::Mapped, None, 0),
        options(WeightLayout::Packed, Some(KvType::F16), 2),
        options(WeightLayout::Auto, Some(KvType::Q8_0), 9),
        LoadOptions { vocab_only: true, ..LoadOptions::default() },
    ];
    for options in all {
        let backends = [choice(Default::default())];
        let estimate = ModelHandle::estimate(Source::Path(bundled()), &options, &backends).unwrap();
        let info = load_from(Source::Path(bundled()), &options).unwrap();
        assert_eq!(estimate.memory, info.memory, "{options:?}");
        assert_eq!(estimate.backend, info.backend);
        assert_eq!(estimate.context_length, info.context_length);
        assert_eq!(estimate.max_sequences, info.max_sequences);
    }
}

#[test]
fn an_estimate_is_refused_with_what_loading_is_refused_with() {
    let wrong = LoadOptions { max_sequences: 5000, ..LoadOptions::default() };
    let little = LoadOptions { memory_limit: Some(1000), ..LoadOptions::default() };
    for options in [wrong, little] {
        let backends = [choice(Default::default())];
        let estimate =
            ModelHandle::estimate(Source::Path(bundled()), &options, &backends).unwrap_err();
        let load = load_from(Source::Path(bundled()), &options).unwrap_err();
        assert_eq!(estimate.code(), load.code());
        assert_eq!(estimate.to_string(), load.to_string());
    }
}
