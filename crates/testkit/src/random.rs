//! Random numbers and random weights that are the same on every machine.

use half::{bf16, f16};
use realm_gguf::{TensorData, TensorType};

/// SplitMix64 (Steele, Lea and Flood, 2014): small, seeded, good enough for tests.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers depend on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// `n` values of mean 0 and standard deviation 1, by Irwin and Hall's sum of
    /// twelve uniform numbers: bounded by 6, so nothing overflows by chance.
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (0..12).map(|_| self.unit()).sum::<f32>() - 6.0).collect()
    }
}

/// How a block keeps its scale.
enum Scale {
    /// An f16 at this byte.
    F16(usize),
    /// An f16 whose nibbles are the highest ones of the last four u16, lowest first.
    Nibbles,
    /// A power of two in the first byte, halved: `2^(byte - 128)`.
    PowerOfTwo,
    /// Floats of 7 bits, halved, in the first four bytes.
    Float7,
}

/// Where a block keeps its scale and minimum, and what they do.
struct BlockScale {
    ty: TensorType,
    scale: Scale,
    /// Root of the mean square of a block of random bytes with scale 1 and that minimum.
    deviation: f32,
    /// Byte of the minimum, and the minimum over the scale that makes the mean 0.
    minimum: Option<(usize, f32)>,
}

/// A format without minimums.
const fn plain(ty: TensorType, scale: Scale, deviation: f32) -> BlockScale {
    BlockScale { ty, scale, deviation, minimum: None }
}

/// A format that begins with a scale.
const fn first(ty: TensorType, deviation: f32) -> BlockScale {
    plain(ty, Scale::F16(0), deviation)
}

/// A format with a minimum after the scale.
const fn minimum(ty: TensorType, at: usize, deviation: f32, ratio: f32) -> BlockScale {
    BlockScale { ty, scale: Scale::F16(at), deviation, minimum: Some((at + 2, ratio)) }
}

/// Layouts: the block structs in ggml `src/ggml-common.h`.
const BLOCK_SCALES: &[BlockScale] = &[
    first(TensorType::Q4_0, 4.6),
    minimum(TensorType::Q4_1, 0, 4.6, -7.5),
    first(TensorType::Q5_0, 9.2),
    minimum(TensorType::Q5_1, 0, 9.2, -15.5),
    first(TensorType::Q8_0, 74.0),
    minimum(TensorType::Q2_K, 80, 14.6, 1.5),
    plain(TensorType::Q3_K, Scale::F16(108), 42.0),
    minimum(TensorType::Q4_K, 0, 236.0, 7.5),
    minimum(TensorType::Q5_K, 0, 486.0, 15.5),
    plain(TensorType::Q6_K, Scale::F16(208), 1366.0),
    first(TensorType::IQ1_S, 7.2),
    plain(TensorType::IQ1_M, Scale::Nibbles, 7.2),
    first(TensorType::IQ2_XXS, 53.4),
    first(TensorType::IQ2_XS, 56.1),
    first(TensorType::IQ2_S, 56.5),
    first(TensorType::IQ3_XXS, 142.5),
    first(TensorType::IQ3_S, 140.9),
    first(TensorType::IQ4_NL, 67.4),
    first(TensorType::IQ4_XS, 1245.0),
    plain(TensorType::TQ1_0, Scale::F16(52), 0.82),
    plain(TensorType::TQ2_0, Scale::F16(64), 1.22),
    plain(TensorType::MXFP4, Scale::PowerOfTwo, 5.86),
    plain(TensorType::NVFP4, Scale::Float7, 5.86),
    first(TensorType::Q1_0, 1.0),
    first(TensorType::Q2_0, 1.22),
];

/// The quantised types that [`tensor`] can make.
pub fn block_types() -> impl Iterator<Item = TensorType> {
    BLOCK_SCALES.iter().map(|format| format.ty)
}

/// A tensor of about mean 0 and standard deviation `deviation`, stored as `ty`.
///
/// Blocks are random bytes under a chosen scale, so that every quant and every
/// sub-block scale occurs. Types: F32, F16, BF16 and [`block_types`]; panics on
/// others and when rows are not whole blocks.
pub fn tensor(
    random: &mut Random,
    name: &str,
    shape: &[usize],
    ty: TensorType,
    deviation: f32,
) -> TensorData {
    let n_values: usize = shape.iter().product();
    let bytes = match ty {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => {
            let values = random.normals(n_values).into_iter().map(|value| value * deviation);
            values.flat_map(|value| scalar_bytes(ty, value)).collect()
        }
        _ => {
            let format = BLOCK_SCALES
                .iter()
                .find(|format| format.ty == ty)
                .unwrap_or_else(|| panic!("no random blocks of type {ty}"));
            random_blocks(random, format, n_values / ty.block_len(), deviation)
        }
    };
    TensorData::from_vec(name, shape, ty, bytes).expect("a tensor of whole blocks")
}

/// An F32 tensor `[values.len()]`.
pub fn vector(name: &str, values: &[f32]) -> TensorData {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorData::from_vec(name, &[values.len()], TensorType::F32, bytes).expect("a vector")
}

fn scalar_bytes(ty: TensorType, value: f32) -> Vec<u8> {
    match ty {
        TensorType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        TensorType::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    }
}

fn random_blocks(
    random: &mut Random,
    format: &BlockScale,
    n_blocks: usize,
    deviation: f32,
) -> Vec<u8> {
    let block_bytes = format.ty.block_bytes();
    let mut bytes = vec![0; n_blocks * block_bytes];
    for chunk in bytes.chunks_mut(8) {
        let bits = random.bits().to_le_bytes();
        chunk.copy_from_slice(&bits[..chunk.len()]);
    }
    for block in bytes.chunks_exact_mut(block_bytes) {
        let mut scale = || deviation / format.deviation * (0.5 + random.unit());
        match format.scale {
            Scale::F16(at) => {
                let mut scale = scale();
                if let Some((at, ratio)) = format.minimum {
                    put_f16(block, at, scale * ratio);
                } else if random.below(2) == 0 {
                    // Not all formats are symmetric; their blocks together are.
                    scale = -scale;
                }
                put_f16(block, at, scale);
            }
            Scale::Nibbles => {
                let bits = f16::from_f32(scale()).to_bits();
                for (i, word) in block[block_bytes - 8..].chunks_exact_mut(2).enumerate() {
                    word[1] = word[1] & 15 | ((bits >> (4 * i)) as u8) << 4;
                }
            }
            Scale::PowerOfTwo => block[0] = (scale().log2().round() + 128.0) as u8,
            Scale::Float7 => block[..4].fill_with(|| twice_as_float7(scale())),
        }
    }
    bytes
}

fn put_f16(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// The nearest of the positive floats with 4 bits of exponent, biased by 7, and 3 of mantissa.
fn twice_as_float7(value: f32) -> u8 {
    // With the exponent's bias in place, its bits are the highest ones below the sign.
    let biased = 2.0 * value * f32::powi(2.0, 7 - 127);
    let rounded = (biased.to_bits() + (1 << 19)) >> 20;
    rounded.clamp(1, 0x7e) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_generators_published_implementation() {
        // The first outputs of Vigna's splitmix64.c from this seed.
        let mut random = Random::new(1_234_567);
        let bits: [u64; 3] = std::array::from_fn(|_| random.bits());
        assert_eq!(
            bits,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn random_blocks_have_the_mean_and_deviation_asked_for() {
        for ty in BLOCK_SCALES.iter().map(|format| format.ty).chain([TensorType::F32]) {
            let tensor = tensor(&mut Random::new(1), "w", &[256, 64], ty, 0.05);
            let values = crate::oracle::dequantize(&tensor).unwrap().values;
            let n = values.len() as f32;
            let mean = values.iter().sum::<f32>() / n;
            let deviation = (values.iter().map(|v| v * v).sum::<f32>() / n).sqrt();
            assert!(mean.abs() < 0.01, "{ty}: mean {mean}");
            assert!((0.04..0.07).contains(&deviation), "{ty}: deviation {deviation}");
        }
    }
}
