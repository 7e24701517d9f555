//! Blocks against ggml's on the same values, and properties that all types share.

use proptest::prelude::*;
use realm_gguf::TensorType;
use realm_quantize::{Error, quantize_rows, value_range, writable};
use realm_testkit::kit;

fn blocks(ty: TensorType, values: &[f32], cols: usize, importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xa5; values.len() / ty.block_len() * ty.block_bytes()];
    quantize_rows(ty, values, cols, importance, &mut bytes).unwrap();
    bytes
}

fn values(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / ty.block_bytes() * ty.block_len()];
    realm_quant::dequantize(ty, bytes, &mut values).unwrap();
    values
}

fn round_trip(ty: TensorType, x: &[f32], cols: usize, importance: Option<&[f32]>) -> Vec<f32> {
    values(ty, &blocks(ty, x, cols, importance))
}

fn error(x: &[f32], y: &[f32], w: impl Fn(usize) -> f32) -> f64 {
    let error = |(i, (x, y)): (usize, (&f32, &f32))| f64::from(w(i)) * f64::from(x - y).powi(2);
    x.iter().zip(y).enumerate().map(error).sum()
}

#[test]
fn every_type_is_as_near_to_the_values_as_ggml_is() {
    let mut worse = Vec::new();
    for case in kit::cases("dequant") {
        let ty = TensorType::from_id(case["ggml_type_id"].as_u64().unwrap() as u32).unwrap();
        if !writable().any(|writable| writable == ty) {
            continue;
        }
        let x = kit::f32_file(case["source"].as_str().unwrap());
        let cols = case["cols"].as_u64().unwrap() as usize;
        let ggml = kit::f32_file(case["expected"].as_str().unwrap());
        let ours = round_trip(ty, &x, cols, None);
        // Row by row: one of them holds values so large that it hides the others.
        let rows = x.chunks(cols).zip(ours.chunks(cols).zip(ggml.chunks(cols)));
        for (row, (x, (ours, ggml))) in rows.enumerate() {
            let (ours, ggml) = (error(x, ours, |_| 1.0).sqrt(), error(x, ggml, |_| 1.0).sqrt());
            // Where all else is exact, the rounding of the scale to f16 is left to chance.
            let rounding = error(x, &vec![0.0; cols], |_| 1.0).sqrt() / 4096.0;
            if ours > (ggml * 1.02).max(rounding) {
                worse.push(format!("{ty} row {row}: {ours} instead of {ggml}"));
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}

fn has_codebook(ty: TensorType) -> bool {
    ["IQ1", "IQ2", "IQ3"].iter().any(|prefix| ty.name().starts_with(prefix))
}

/// The error, relative to normally distributed values, that each type stays below.
///
/// Between Lloyd's optimum for its levels and twice that. Source of the optimum: Max,
/// "Quantizing for minimum distortion" (1960), table I: 0.603 for 2 levels, 0.343 for 4,
/// 0.186 for 8, 0.0975 for 16, 0.0499 for 32; half as much for every further bit.
const BOUNDS: &[(TensorType, f64)] = &[
    (TensorType::F32, 0.0),
    (TensorType::F16, 3e-4),
    (TensorType::BF16, 3e-3),
    (TensorType::Q1_0, 0.62),
    (TensorType::Q2_0, 0.40),
    (TensorType::Q4_0, 0.10),
    (TensorType::Q4_1, 0.10),
    (TensorType::Q5_0, 0.05),
    (TensorType::Q5_1, 0.05),
    (TensorType::Q8_0, 0.01),
    (TensorType::Q2_K, 0.34),
    (TensorType::Q3_K, 0.186),
    (TensorType::Q4_K, 0.0975),
    (TensorType::Q5_K, 0.0499),
    (TensorType::Q6_K, 0.025),
    (TensorType::IQ1_S, 0.50),
    (TensorType::IQ1_M, 0.45),
    (TensorType::IQ2_XXS, 0.36),
    (TensorType::IQ2_XS, 0.31),
    (TensorType::IQ2_S, 0.27),
    (TensorType::IQ3_XXS, 0.20),
    (TensorType::IQ3_S, 0.16),
    (TensorType::IQ4_NL, 0.0975),
    (TensorType::IQ4_XS, 0.0975),
    (TensorType::MXFP4, 0.14),
    (TensorType::NVFP4, 0.14),
    (TensorType::TQ1_0, 0.45),
    (TensorType::TQ2_0, 0.45),
];

#[test]
fn what_the_engine_reads_back_is_as_near_as_the_bits_allow() {
    let x = random(11, 16 * 1024);
    let size = error(&x, &vec![0.0; x.len()], |_| 1.0).sqrt();
    let mut bounds = BOUNDS.to_vec();
    for ty in writable() {
        let at = bounds.iter().position(|bound| bound.0 == ty);
        let (_, bound) = bounds.swap_remove(at.unwrap_or_else(|| panic!("no bound for {ty}")));
        let off = error(&x, &round_trip(ty, &x, 1024, None), |_| 1.0).sqrt() / size;
        assert!(off <= bound, "{ty}: {off}");
    }
    assert!(bounds.is_empty(), "not writable: {bounds:?}");
}

/// Blocks are written and read here: neither knows of the ranges.
#[test]
fn a_range_ends_where_larger_values_no_longer_make_larger_blocks() {
    let largest = |ty: TensorType, value: f32| {
        // Zeros between them, so that a minimum is not all there is.
        let x: Vec<f32> = (0..256).map(|i| if i % 2 == 1 { value } else { 0.0 }).collect();
        let y = round_trip(ty, &x, 256, None);
        assert!(y.iter().all(|y| y.is_finite()), "{ty}: {value}");
        y.into_iter().skip(1).step_by(2).map(|y| y / value.signum()).fold(f32::MIN, f32::max)
    };
    for ty in writable() {
        let range = value_range(ty).unwrap();
        for end in [*range.start(), *range.end()] {
            match ty {
                TensorType::F32 => assert_eq!(largest(ty, end), f32::MAX),
                TensorType::F16 => assert_eq!(largest(ty, end), 65_504.0),
                TensorType::BF16 => assert_eq!(largest(ty, end), f32::from_bits(0x7f7f_0000)),
                // Whatever its scale is limited to is no matter of the type.
                TensorType::MXFP4 => assert!((0.5..1.5).contains(&(largest(ty, end) / end.abs()))),
                _ => {
                    let share = largest(ty, 4.0 * end) / end.abs();
                    assert!((0.999..=1.000_001).contains(&share), "{ty}: {share} of {end}");
                }
            }
        }
        let above = range.end().next_up();
        match ty {
            TensorType::F16 => assert!(half::f16::from_f32(above).is_infinite()),
            TensorType::BF16 => assert!(half::bf16::from_f32(above).is_infinite()),
            _ => {}
        }
    }
    assert!(value_range(TensorType::I8).is_err());
}

/// A small generator, so that a failing case is one number.
fn random_bits(seed: u64) -> impl FnMut() -> u32 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    }
}

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut bits = random_bits(seed);
    let mut unit = || bits() as f32 / (1u64 << 31) as f32 - 1.0;
    // Sums of three are near enough to normally distributed.
    (0..n).map(|_| unit() + unit() + unit()).collect()
}

/// Numbers that break arithmetic which does not expect them.
fn odd() -> impl Strategy<Value = f32> {
    prop_oneof![
        prop::num::f32::ANY,
        prop::num::f32::SUBNORMAL,
        prop_oneof![
            Just(0.0),
            Just(-0.0),
            Just(f32::NAN),
            Just(f32::INFINITY),
            Just(f32::NEG_INFINITY),
            Just(f32::MAX),
            Just(f32::MIN_POSITIVE),
        ],
        -1.0f32..1.0,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn importance_moves_error_away_from_columns_that_matter(seed: u64) {
        let x = random(seed, 4 * 512);
        // Every third column matters a hundred times as much.
        let importance: Vec<f32> =
            (0..512).map(|i| if i % 3 == 0 { 1.0 } else { 0.01 }).collect();
        for ty in writable().filter(|ty| ty.block_len() > 1 && *ty != TensorType::Q8_0) {
            let weighted = |y: &[f32]| error(&x, y, |i| importance[i % 512]);
            let plain = weighted(&round_trip(ty, &x, 512, None));
            let with = weighted(&round_trip(ty, &x, 512, Some(&importance)));
            prop_assert!(with <= plain, "{ty}: {with} with importance, {plain} without");
        }
    }

    #[test]
    fn odd_values_and_factors_give_finite_blocks(
        values in proptest::collection::vec(odd(), 512),
        factors in proptest::collection::vec(odd(), 256),
    ) {
        for ty in writable().filter(|ty| ty.block_len() > 1) {
            let y = round_trip(ty, &values, 256, Some(&factors));
            prop_assert!(y.iter().all(|v| v.is_finite()), "{ty}");
        }
    }

    #[test]
    fn blocks_of_any_finite_values_are_finite(seed: u64) {
        let mut random = random_bits(seed);
        let mut finite = || std::iter::repeat_with(|| f32::from_bits(random())).find(|v| v.is_finite());
        let x: Vec<f32> = (0..512).map(|_| finite().unwrap()).collect();
        for ty in writable().filter(|ty| !matches!(ty, TensorType::F16 | TensorType::BF16)) {
            let y = round_trip(ty, &x, 256, None);
            prop_assert!(y.iter().all(|v| v.is_finite()), "{ty}");
        }
    }
}

#[test]
fn values_that_a_format_has_come_back_exactly() {
    for ty in writable() {
        // What the format makes of random values is what it can express.
        let x = round_trip(ty, &random(7, 1024), 256, None);
        let y = round_trip(ty, &x, 256, None);
        let (size, off) = (error(&x, &vec![0.0; 1024], |_| 1.0), error(&x, &y, |_| 1.0));
        // With codebooks, not every scale is tried.
        let bound = if has_codebook(ty) { 1e-2 } else { 1e-5 };
        assert!(off <= size * bound, "{ty}: {off} of {size}");
    }
}

#[test]
fn zeros_stay_zeros() {
    for ty in writable() {
        let y = round_trip(ty, &[0.0; 512], 256, None);
        // Q1_0 has no zero: with a scale of 0 both of its levels are.
        assert!(y.iter().all(|v| v.abs() < 1e-30), "{ty}");
    }
}

#[test]
fn factors_that_are_all_zero_count_as_none() {
    let x = random(3, 512);
    for ty in writable() {
        assert_eq!(blocks(ty, &x, 512, Some(&[0.0; 512])), blocks(ty, &x, 512, None), "{ty}");
    }
}

#[test]
fn arguments_that_do_not_fit_together_are_refused() {
    let x = [0.0; 512];
    let call = |ty, cols, importance: Option<&[f32]>, n_bytes: usize| {
        quantize_rows(ty, &x, cols, importance, &mut vec![0; n_bytes]).unwrap_err()
    };
    assert!(matches!(call(TensorType::Q4_K, 128, None, 288), Error::Blocks { cols: 128, .. }));
    assert!(matches!(call(TensorType::Q4_K, 0, None, 288), Error::Blocks { cols: 0, .. }));
    assert!(matches!(call(TensorType::Q4_K, 256, None, 287), Error::Length { what: "bytes", .. }));
    assert!(matches!(call(TensorType::Q4_K, 768, None, 288), Error::Length { what: "values", .. }));
    let short = [1.0; 255];
    let error = call(TensorType::Q4_K, 256, Some(&short), 288);
    assert!(matches!(error, Error::Length { what: "importance", .. }));
    assert!(matches!(call(TensorType::Q8_K, 256, None, 584), Error::NotWritable { .. }));
}
