//! Dequantised values against ggml's, from the conformance kit.

use realm_gguf::TensorType;
use realm_testkit::kit;

#[test]
fn every_format_dequantises_the_kit_bit_for_bit() {
    let mut met = Vec::new();
    for case in kit::cases("dequant") {
        let id = case["ggml_type_id"].as_u64().unwrap() as u32;
        let ty = TensorType::from_id(id).unwrap();
        if realm_quant::format(ty).is_none() {
            continue;
        }
        let expected = kit::f32_file(case["expected"].as_str().unwrap());
        let bytes = kit::read_maybe_gz(case["file"].as_str().unwrap());
        let mut values = vec![f32::NAN; expected.len()];
        realm_quant::dequantize(ty, &bytes, &mut values).unwrap();
        for (i, (got, want)) in values.iter().zip(&expected).enumerate() {
            assert_eq!(got.to_bits(), want.to_bits(), "{ty} value {i}: {got}, expected {want}");
        }
        met.push(ty);
    }
    // F32 needs no reference: the kit has none.
    let missing: Vec<_> =
        realm_quant::supported().filter(|ty| *ty != TensorType::F32 && !met.contains(ty)).collect();
    assert!(missing.is_empty(), "no reference data for {missing:?}");
}
