//! Loading within a limit of memory.

mod support;

use realm_engine::model::ModelHandle;
use realm_engine::{Coded, Error, ErrorCode, LoadOptions};
use realm_ir::WeightLayout;
use support::{choice, load_with};

fn load(layout: WeightLayout, memory_limit: Option<u64>) -> Result<ModelHandle, Error> {
    let options = LoadOptions { layout, memory_limit, ..LoadOptions::default() };
    load_with(&options, &[choice(Default::default())])
}

/// Bytes that the model needs when its matrices are kept so.
fn needed(layout: WeightLayout) -> u64 {
    let model = load(layout, None).unwrap();
    let info = model.info().unwrap();
    info.weight_bytes + info.kv_cache_bytes as u64 + info.packed_bytes
}

#[test]
fn a_model_that_needs_more_is_refused_whatever_the_layout() {
    let mapped = needed(WeightLayout::Mapped);
    for layout in [WeightLayout::Auto, WeightLayout::Mapped, WeightLayout::Packed] {
        let error = load(layout, Some(mapped - 1)).err().unwrap();
        assert_eq!(error.code(), ErrorCode::OutOfMemory);
        let message = error.to_string();
        assert!(message.contains(&format!("needs {mapped} bytes")), "{message}");
        assert!(message.contains(&format!("leaves {}", mapped - 1)), "{message}");
    }
    load(WeightLayout::Mapped, Some(mapped)).unwrap();
}

#[test]
fn copies_are_made_only_as_far_as_the_limit_allows() {
    let packed = needed(WeightLayout::Packed);
    assert_eq!(load(WeightLayout::Packed, Some(packed)).unwrap().info().unwrap().layout, "packed");
    let error = load(WeightLayout::Packed, Some(packed - 1)).err().unwrap();
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
    assert!(error.to_string().contains("packed copies"), "{error}");
    let model = load(WeightLayout::Auto, Some(packed - 1)).unwrap();
    let info = model.info().unwrap();
    assert_eq!((info.layout.as_str(), info.packed_bytes), ("mapped", 0));
}
