//! Rows of values to blocks, the other way round from [`realm_quant::dequantize`].
//!
//! [`fit`] finds scales: those with which the blocks differ least from the values,
//! as a sum of squares, each weighted with its importance. [`super_block`] does so
//! for 256 values whose scales share a scale. The other files write bytes.

mod codebook;
mod fit;
mod four_bit;
mod iq;
mod k_quants;
mod legacy;
mod super_block;
mod ternary;

use std::ops::RangeInclusive;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use realm_gguf::TensorType;

use crate::Error;

/// Most values in a block.
const MAX_BLOCK_LEN: usize = 256;
/// Values beyond this one are limited to it, so that squares stay finite.
const LARGEST_VALUE: f32 = 1e15;

/// Writes one block: values, their weights, bytes. The lengths are the type's.
type Encode = fn(&[f32], &[f32], &mut [u8]);

/// How blocks of each type are written. The float types need no entry.
const ENCODERS: &[(TensorType, Encode)] = &[
    (TensorType::Q4_0, legacy::q4_0),
    (TensorType::Q4_1, legacy::q4_1),
    (TensorType::Q5_0, legacy::q5_0),
    (TensorType::Q5_1, legacy::q5_1),
    (TensorType::Q8_0, legacy::q8_0),
    (TensorType::Q2_K, k_quants::q2_k),
    (TensorType::Q3_K, k_quants::q3_k),
    (TensorType::Q4_K, k_quants::q4_k),
    (TensorType::Q5_K, k_quants::q5_k),
    (TensorType::Q6_K, k_quants::q6_k),
    (TensorType::IQ1_S, iq::iq1_s),
    (TensorType::IQ1_M, iq::iq1_m),
    (TensorType::IQ2_XXS, iq::iq2_xxs),
    (TensorType::IQ2_XS, iq::iq2_xs),
    (TensorType::IQ2_S, iq::iq2_s),
    (TensorType::IQ3_XXS, iq::iq3_xxs),
    (TensorType::IQ3_S, iq::iq3_s),
    (TensorType::IQ4_NL, four_bit::iq4_nl),
    (TensorType::IQ4_XS, four_bit::iq4_xs),
    (TensorType::MXFP4, four_bit::mxfp4),
    (TensorType::NVFP4, four_bit::nvfp4),
    (TensorType::TQ1_0, ternary::tq1_0),
    (TensorType::TQ2_0, ternary::tq2_0),
    (TensorType::Q1_0, ternary::q1_0),
    (TensorType::Q2_0, ternary::q2_0),
];

/// The lowest and the highest value of a block whose scale `d` is 1: the largest scale that a group
/// has beside it, times the outermost level. Below zero, types with a minimum have that alone.
const ENDS: &[(TensorType, f32, f32)] = &[
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

/// Types that [`quantize_rows`] can write.
pub fn writable() -> impl Iterator<Item = TensorType> {
    [TensorType::F32, TensorType::F16, TensorType::BF16]
        .into_iter()
        .chain(ENCODERS.iter().map(|entry| entry.0))
}

/// Turns whole rows of `cols` values into blocks of `ty`.
///
/// `importance` weights the columns: one factor for each, 0 if it is negative; `None`
/// weights all alike. A block whose factors are all zero is treated alike too.
/// Values beyond 1e15, or too large for a scale, are limited to what can be expressed,
/// and what is not a number counts as 0; the float types keep what they can.
///
/// # Errors
///
/// [`Error::NotWritable`]; [`Error::Blocks`] when rows are not whole blocks;
/// [`Error::Length`] when a slice does not have the length the others ask for.
pub fn quantize_rows(
    ty: TensorType,
    values: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<(), Error> {
    if cols == 0 || !cols.is_multiple_of(ty.block_len()) {
        return Err(Error::Blocks { ty, cols });
    }
    check_len("values", values.len().next_multiple_of(cols), values.len())?;
    check_len("bytes", values.len() / ty.block_len() * ty.block_bytes(), out.len())?;
    if let Some(importance) = importance {
        check_len("importance", cols, importance.len())?;
    }
    match ty {
        TensorType::F32 => out.copy_from_slice(bytemuck::cast_slice(values)),
        TensorType::F16 => {
            write_halves(values, out, |x, y: &mut [f16]| y.convert_from_f32_slice(x))
        }
        TensorType::BF16 => {
            write_halves(values, out, |x, y: &mut [bf16]| y.convert_from_f32_slice(x));
        }
        _ => {
            let encode = ENCODERS.iter().find(|entry| entry.0 == ty);
            let (_, encode) = encode.ok_or(Error::NotWritable { ty })?;
            write_blocks(ty, *encode, values, cols, importance, out);
        }
    }
    Ok(())
}

/// The values that `ty` can hold. Beyond them a float type has infinity, and a block is limited to
/// its largest scale times its outermost level.
///
/// # Errors
///
/// [`Error::NotWritable`].
pub fn value_range(ty: TensorType) -> Result<RangeInclusive<f32>, Error> {
    // From half of a step above its largest number on, a float type has infinity.
    let largest = match ty {
        TensorType::F32 => f32::MAX,
        TensorType::F16 => 65_520f32.next_down(),
        TensorType::BF16 => f32::from_bits(0x7f7f_8000).next_down(),
        // Scales of E4M3 up to 448, levels up to 6; scales are powers of two.
        TensorType::NVFP4 => 448.0 * 6.0,
        TensorType::MXFP4 => LARGEST_VALUE,
        _ => {
            let ends = ENDS.iter().find(|ends| ends.0 == ty).ok_or(Error::NotWritable { ty })?;
            let d = f16::MAX.to_f32();
            return Ok(d * ends.1..=d * ends.2);
        }
    };
    Ok(-largest..=largest)
}

fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

/// Converts through a small buffer: `out` need not be aligned for the numbers.
fn write_halves<T: bytemuck::Pod>(
    values: &[f32],
    out: &mut [u8],
    convert: impl Fn(&[f32], &mut [T]),
) {
    let mut halves = [T::zeroed(); 256];
    for (values, out) in values.chunks(256).zip(out.chunks_mut(512)) {
        let halves = &mut halves[..values.len()];
        convert(values, halves);
        out.copy_from_slice(bytemuck::cast_slice(halves));
    }
}

fn write_blocks(
    ty: TensorType,
    encode: Encode,
    values: &[f32],
    cols: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let len = ty.block_len();
    let (mut x, mut w) = ([0.0; MAX_BLOCK_LEN], [1.0; MAX_BLOCK_LEN]);
    let (x, w) = (&mut x[..len], &mut w[..len]);
    let blocks = values.chunks_exact(len).zip(out.chunks_exact_mut(ty.block_bytes()));
    for (i, (values, out)) in blocks.enumerate() {
        for (x, value) in x.iter_mut().zip(values) {
            *x = if value.is_nan() { 0.0 } else { value.clamp(-LARGEST_VALUE, LARGEST_VALUE) };
        }
        if let Some(importance) = importance {
            weigh(w, &importance[i * len % cols..][..len]);
        }
        encode(x, w, out);
    }
}

/// Fills `w` with factors relative to the largest; all alike when they are all zero.
fn weigh(w: &mut [f32], factors: &[f32]) {
    // What is not a number is not larger than 0 either.
    let limited = |factor: f32| if factor > 0.0 { factor.min(f32::MAX) } else { 0.0 };
    let largest = factors.iter().fold(0.0, |largest, factor| limited(*factor).max(largest));
    for (w, factor) in w.iter_mut().zip(factors) {
        *w = if largest > 0.0 { limited(*factor) / largest } else { 1.0 };
    }
}

/// The nearest f16, limited to the finite ones.
fn to_f16(value: f32) -> f16 {
    f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

/// The value of the nearest f16.
fn stored_f16(value: f32) -> f32 {
    to_f16(value).to_f32()
}

/// Writes the nearest f16 at byte `at` and returns its value.
fn put_f16(out: &mut [u8], at: usize, value: f32) -> f32 {
    let half = to_f16(value);
    out[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// Joins 32 numbers of 4 bits in 16 bytes: the first 16 in the low nibbles.
fn put_nibbles(out: &mut [u8], u: impl Fn(usize) -> u8) {
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = (u(i) & 15) | (u(i + 16) & 15) << 4;
    }
}
