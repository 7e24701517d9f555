//! How values of each type lie on the device.
//!
//! A quantised row is groups of 32 values, and a buffer holds planes: the low bits of all
//! quants, the high bits, the scales of groups, the scales of blocks of 256. The integers are
//! those of the file, so values are the same to the last roundings; only their order and
//! the width of some scales differ. A format is therefore no more than a row of the table below.

use std::hash::{Hash, Hasher};

use realm_gguf::TensorType;

use super::GROUP;

/// How weights of one type are kept.
pub(crate) struct Format {
    pub ty: TensorType,
    pub values: Values,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.ty == other.ty
    }
}

impl Eq for Format {}

impl Hash for Format {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ty.hash(state);
    }
}

pub(crate) enum Values {
    /// As the file has them, so many bytes each.
    Floats(usize),
    Quants(Quants),
}

/// Planes of small integers and their scales.
pub(crate) struct Quants {
    /// Bits of a quant in the first plane: 2, 4 or 8.
    pub low_bits: u32,
    /// Bits above those, in the second plane: 0, 1 or 2.
    pub high_bits: u32,
    /// What is added to a quant so that it is not negative; 8 bits are kept signed.
    pub offset: i32,
    /// The quants that there are, when those of 4 bits are kept as places in this list.
    pub book: Option<&'static [i8; 16]>,
    pub scales: Scales,
    /// Factor on all scales, a power of two.
    pub factor: f32,
}

/// How scales are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// An f16 per group.
    Half,
    /// Two f16 per group: scale and minimum.
    HalfAndMinimum,
    /// Two f16 per group: of the first and the second 16 values.
    Halves,
    /// A power of two per group, as the exponent of an f32 plus 1.
    Power,
    /// Two bytes per group, integers for the first and the second 16 values; an f16 per block.
    Bytes,
    /// Two bytes per group: integer scale and minimum; two f16 per block.
    BytesAndMinimums,
    /// Four nibbles per group: integer scale and minimum of 16 values, twice; two f16 per block.
    NibblesAndMinimums,
}

impl Scales {
    /// Bytes per group.
    pub fn group_bytes(self) -> usize {
        match self {
            Scales::Power => 1,
            Scales::Half => 2,
            Scales::HalfAndMinimum | Scales::Halves => 4,
            Scales::Bytes | Scales::BytesAndMinimums | Scales::NibblesAndMinimums => 2,
        }
    }

    /// Whether there is a word per block of 256 values.
    pub fn has_blocks(self) -> bool {
        matches!(self, Scales::Bytes | Scales::BytesAndMinimums | Scales::NibblesAndMinimums)
    }
}

/// Groups of a block.
pub(crate) const BLOCK_GROUPS: usize = 8;

/// Levels of IQ4_NL and IQ4_XS: `kvalues_iq4nl` in ggml `src/ggml-common.h`.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the floats of 4 bits: 1 bit of mantissa, 2 of exponent, sign.
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
/// All values of the grid of IQ1: eight times -1, 0 or 1, give or take 1.
const IQ1: [i8; 16] = [-9, -7, -1, 1, 7, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// All values of the grids of IQ2, with either sign.
const IQ2: [i8; 16] = [8, 25, 43, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// All values of the grid of IQ3_XXS, with either sign.
const IQ3_XXS: [i8; 16] = [4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62];
/// All values of the grid of IQ3_S, with either sign.
const IQ3_S: [i8; 16] = [1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15];

const fn floats(ty: TensorType, bytes: usize) -> Format {
    Format { ty, values: Values::Floats(bytes) }
}

const fn quants(ty: TensorType, bits: (u32, u32), offset: i32, scales: Scales) -> Format {
    let (low_bits, high_bits) = bits;
    let quants = Quants { low_bits, high_bits, offset, book: None, scales, factor: 1.0 };
    Format { ty, values: Values::Quants(quants) }
}

const fn book(ty: TensorType, book: &'static [i8; 16], scales: Scales, factor: f32) -> Format {
    let book = Some(book);
    let quants = Quants { low_bits: 4, high_bits: 0, offset: 0, book, scales, factor };
    Format { ty, values: Values::Quants(quants) }
}

static FORMATS: [Format; 28] = [
    floats(TensorType::F32, 4),
    floats(TensorType::F16, 2),
    floats(TensorType::BF16, 2),
    quants(TensorType::Q4_0, (4, 0), 8, Scales::Half),
    quants(TensorType::Q4_1, (4, 0), 0, Scales::HalfAndMinimum),
    quants(TensorType::Q5_0, (4, 1), 16, Scales::Half),
    quants(TensorType::Q5_1, (4, 1), 0, Scales::HalfAndMinimum),
    quants(TensorType::Q8_0, (8, 0), 0, Scales::Half),
    quants(TensorType::Q2_K, (2, 0), 0, Scales::NibblesAndMinimums),
    quants(TensorType::Q3_K, (2, 1), 4, Scales::Bytes),
    quants(TensorType::Q4_K, (4, 0), 0, Scales::BytesAndMinimums),
    quants(TensorType::Q5_K, (4, 1), 0, Scales::BytesAndMinimums),
    quants(TensorType::Q6_K, (4, 2), 32, Scales::Bytes),
    book(TensorType::IQ1_S, &IQ1, Scales::Bytes, 1.0 / 8.0),
    book(TensorType::IQ1_M, &IQ1, Scales::Bytes, 1.0 / 8.0),
    book(TensorType::IQ2_XXS, &IQ2, Scales::Bytes, 1.0 / 8.0),
    book(TensorType::IQ2_XS, &IQ2, Scales::Bytes, 1.0 / 8.0),
    book(TensorType::IQ2_S, &IQ2, Scales::Bytes, 1.0 / 8.0),
    book(TensorType::IQ3_XXS, &IQ3_XXS, Scales::Bytes, 1.0 / 4.0),
    book(TensorType::IQ3_S, &IQ3_S, Scales::Bytes, 1.0),
    book(TensorType::IQ4_NL, &IQ4, Scales::Half, 1.0),
    book(TensorType::IQ4_XS, &IQ4, Scales::Bytes, 1.0),
    quants(TensorType::TQ1_0, (2, 0), 1, Scales::Bytes),
    quants(TensorType::TQ2_0, (2, 0), 1, Scales::Bytes),
    book(TensorType::MXFP4, &FP4, Scales::Power, 1.0),
    book(TensorType::NVFP4, &FP4, Scales::Halves, 1.0),
    quants(TensorType::Q1_0, (2, 0), 1, Scales::Half),
    quants(TensorType::Q2_0, (2, 0), 1, Scales::Half),
];

/// The format that weights of a type are kept in: that of the type itself.
pub(crate) fn format(ty: TensorType) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.ty == ty)
}

/// Every type that can be kept.
pub(crate) fn types() -> impl Iterator<Item = TensorType> {
    FORMATS.iter().map(|format| format.ty)
}

impl Format {
    /// Words of each plane of `n_values` values. Floats have one plane; quants have low bits,
    /// high bits, scales of groups and scales of blocks.
    pub fn plane_words(&self, n_values: u64) -> [u64; 4] {
        match &self.values {
            Values::Floats(bytes) => [(n_values * *bytes as u64).div_ceil(4), 0, 0, 0],
            Values::Quants(quants) => {
                let n_groups = n_values / GROUP as u64;
                let scales = (n_groups * quants.scales.group_bytes() as u64).div_ceil(4);
                let n_blocks = n_groups.div_ceil(BLOCK_GROUPS as u64);
                [
                    n_groups * u64::from(quants.low_bits),
                    n_groups * u64::from(quants.high_bits),
                    scales,
                    if quants.scales.has_blocks() { n_blocks } else { 0 },
                ]
            }
        }
    }

    /// Whether the last word of every plane of `n_values` values is full, so that more can
    /// follow.
    pub fn ends_with_words(&self, n_values: u64) -> bool {
        match &self.values {
            Values::Floats(bytes) => (n_values * *bytes as u64).is_multiple_of(4),
            Values::Quants(quants) => {
                let n_groups = n_values / GROUP as u64;
                let is_full = (n_groups * quants.scales.group_bytes() as u64).is_multiple_of(4);
                let whole_blocks = n_groups.is_multiple_of(BLOCK_GROUPS as u64);
                is_full && (!quants.scales.has_blocks() || whole_blocks)
            }
        }
    }

    /// Bytes of `n_values` values.
    pub fn bytes(&self, n_values: u64) -> u64 {
        4 * self.plane_words(n_values).iter().sum::<u64>()
    }
}
