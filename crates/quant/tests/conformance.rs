//! Dequantised values against ggml's, from the conformance kit.

use realm_gguf::TensorType;
use realm_testkit::kit;

#[test]
fn every_type_of_the_kit_dequantises_bit_for_bit() {
    let mut met = vec![TensorType::F32]; // needs no reference: the kit has none
    for case in kit::cases("dequant") {
        let id = case["ggml_type_id"].as_u64().unwrap() as u32;
        let ty = TensorType::from_id(id).unwrap();
        let expected = kit::f32_file(case["expected"].as_str().unwrap());
        let bytes = kit::read_maybe_gz(case["file"].as_str().unwrap());
        let mut values = vec![f32::NAN; expected.len()];
        realm_quant::dequantize(ty, &bytes, &mut values).unwrap();
        for (i, (got, want)) in values.iter().zip(&expected).enumerate() {
            assert_eq!(got.to_bits(), want.to_bits(), "{ty} value {i}: {got}, expected {want}");
        }
        met.push(ty);
    }
    assert!(met.len() >= 28, "the kit has 27 types, met {met:?}");
    let missing: Vec<_> = realm_quant::supported().filter(|ty| !met.contains(ty)).collect();
    assert!(missing.is_empty(), "no reference data for {missing:?}");
}
