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

/// The lowest and the highest value of each type, in units of the largest f16 number that a
/// scale can be: its largest scale within the block times its outermost level.
///
/// Source: the layouts in `realm_quant`, and the tables of ggml `src/ggml-common.h`.
const RANGES: &[(TensorType, f32, f32)] = &[
    (TensorType::Q1_0, -1.0, 1.0),
    (TensorType::Q2_0, -2.0, 2.0),
    (TensorType::Q4_0, -8.0, 8.0),
    (TensorType::Q4_1, -1.0, 15.0),
    (TensorType::Q5_0, -16.0, 16.0),
    (TensorType::Q5_1, -1.0, 31.0),
    (TensorType::Q8_0, -127.0, 127.0),
    (TensorType::Q2_K, -15.0, 15.0 * 3.0),
    (TensorType::Q3_K, -32.0 * 4.0, 32.0 * 4.0),
    (TensorType::Q4_K, -63.0, 63.0 * 15.0),
    (TensorType::Q5_K, -63.0, 63.0 * 31.0),
    (TensorType::Q6_K, -128.0 * 32.0, 128.0 * 32.0),
    (TensorType::IQ1_S, -15.0 * 1.125, 15.0 * 1.125),
    (TensorType::IQ1_M, -15.0 * 1.125, 15.0 * 1.125),
    (TensorType::IQ2_XXS, -15.5 * 0.25 * 43.0, 15.5 * 0.25 * 43.0),
    (TensorType::IQ2_XS, -15.5 * 0.25 * 43.0, 15.5 * 0.25 * 43.0),
    (TensorType::IQ2_S, -15.5 * 0.25 * 43.0, 15.5 * 0.25 * 43.0),
    (TensorType::IQ3_XXS, -15.5 * 0.5 * 62.0, 15.5 * 0.5 * 62.0),
    (TensorType::IQ3_S, -31.0 * 15.0, 31.0 * 15.0),
    (TensorType::IQ4_NL, -127.0, 127.0),
    (TensorType::IQ4_XS, -32.0 * 127.0, 32.0 * 127.0),
    (TensorType::TQ1_0, -1.0, 1.0),
    (TensorType::TQ2_0, -1.0, 1.0),
];

#[test]
fn a_type_holds_what_its_largest_scale_and_outermost_level_make() {
    let mut ranges = RANGES.to_vec();
    for ty in writable() {
        let range = value_range(ty).unwrap();
        let (lowest, highest) = match ty {
            TensorType::F32 => (f32::MIN, f32::MAX),
            // 65504 and half a step more, which is rounded to an even number, infinity.
            TensorType::F16 => (-65_519.996, 65_519.996),
            TensorType::BF16 => (f32::from_bits(0xff7f_7fff), f32::from_bits(0x7f7f_7fff)),
            // Four bits of E2M1, up to 6, with scales of E4M3 up to 448.
            TensorType::NVFP4 => (-6.0 * 448.0, 6.0 * 448.0),
            TensorType::MXFP4 => {
                // Powers of two as scales: what all types are limited to.
                assert!(*range.start() < -9e14 && *range.end() > 9e14, "{ty}: {range:?}");
                continue;
            }
            _ => {
                let at = ranges.iter().position(|known| known.0 == ty);
                let (_, low, high) = ranges.swap_remove(at.unwrap_or_else(|| panic!("no {ty}")));
                (low * 65_504.0, high * 65_504.0)
            }
        };
        assert_eq!((*range.start(), *range.end()), (lowest, highest), "{ty}");
    }
    assert!(ranges.is_empty(), "not writable: {ranges:?}");
}

#[test]
fn the_ends_of_a_range_are_written_and_read_as_finite_values_near_them() {
    for ty in writable() {
        let range = value_range(ty).unwrap();
        for end in [*range.start(), *range.end()] {
            let x: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { end } else { 0.0 }).collect();
            let y = round_trip(ty, &x, 256, None);
            let largest =
                y.iter().fold(0.0f32, |max, y| if y.abs() > max.abs() { *y } else { max });
            assert!((largest / end - 1.0).abs() < 0.3, "{ty}: {end} became {largest}");
        }
    }
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
