//! Blocks as values, or as the small integers they are made of, for those who lay them out
//! anew.
//!
//! Whatever the format, 32 values are integers with up to two scales:
//! `w[i] = d[h] * scales[h] * q[i] - dmin * mins[h]` with `h = i / 16`.

use half::{bf16, f16};
use realm_gguf::TensorType;

use crate::block32::{self, Block32};
use crate::block256::{self, Block256};
use crate::error::{Error, check_len};
use crate::{
    float, iq1_m, iq1_s, iq2_s, iq2_xs, iq2_xxs, iq3_s, iq3_xxs, iq4_nl, iq4_xs, mxfp4, nvfp4,
    q1_0, q2_0, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0, tq1_0, tq2_0,
};

/// 32 values of a quantised row, unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Group {
    /// The values before their scales.
    pub quants: [i8; Group::LEN],
    /// Integer scale of each 16 values; 1 in formats that have none.
    pub scales: [i8; 2],
    /// Integer minimum of each 16 values; 0 in formats that have none, 1 where `dmin` alone is
    /// the minimum.
    pub mins: [u8; 2],
    /// Scale of the scales, of each 16 values.
    pub d: [f32; 2],
    /// Scale of the minimums.
    pub dmin: f32,
}

impl Group {
    /// Values of a group.
    pub const LEN: usize = 32;

    /// The value at `index`, less than [`Group::LEN`], as [`dequantize`](crate::dequantize) has it
    /// but for roundings.
    pub fn value(&self, index: usize) -> f32 {
        let half = index / 16;
        let scale = self.d[half] * f32::from(self.scales[half]);
        scale * f32::from(self.quants[index]) - self.dmin * f32::from(self.mins[half])
    }
}

/// Unpacks whole blocks of `ty` to groups, in order.
///
/// # Errors
///
/// [`Error::Unsupported`] for F32, F16, BF16 and types without a compute format;
/// [`Error::Blocks`] when `out` does not hold whole blocks; [`Error::Length`] when `bytes` does
/// not match `out`.
pub fn unpack(ty: TensorType, bytes: &[u8], out: &mut [Group]) -> Result<(), Error> {
    let Some(definition) = definition(ty) else { return Err(Error::Unsupported { ty }) };
    check_blocks(ty, bytes, out.len() * Group::LEN)?;
    match definition {
        Definition::Float(_) => return Err(Error::Unsupported { ty }),
        Definition::Block32(definition) => definition.unpack(bytes, out),
        Definition::Block256(definition) => definition.unpack(bytes, out),
        Definition::Nvfp4 => nvfp4::unpack(bytes, out),
    }
    Ok(())
}

/// Turns whole blocks of `ty` into values, as ggml's `to_float` does, to the bit.
///
/// # Errors
///
/// [`Error::Unsupported`]; [`Error::Blocks`] when `out` does not hold whole
/// blocks; [`Error::Length`] when `bytes` does not match `out`.
pub fn dequantize(ty: TensorType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    let definition = definition(ty).ok_or(Error::Unsupported { ty })?;
    check_blocks(ty, bytes, out.len())?;
    match definition {
        Definition::Float(dequantize) => dequantize(bytes, out),
        Definition::Block32(definition) => definition.dequantize(bytes, out),
        Definition::Block256(definition) => definition.dequantize(bytes, out),
        Definition::Nvfp4 => nvfp4::dequantize(bytes, out),
    }
    Ok(())
}

/// Whether `bytes` is the whole blocks of `values` values.
fn check_blocks(ty: TensorType, bytes: &[u8], values: usize) -> Result<(), Error> {
    if !values.is_multiple_of(ty.block_len()) {
        return Err(Error::Blocks { what: ty.name(), cols: values, block_len: ty.block_len() });
    }
    let blocks = values / ty.block_len();
    check_len("quantised bytes", blocks * ty.block_bytes(), bytes.len())
}

/// What the bytes of a type mean.
enum Definition {
    Float(fn(&[u8], &mut [f32])),
    Block32(block32::Definition),
    Block256(block256::Definition),
    Nvfp4,
}

/// Apart from the formats' kernels, so that a program that only unpacks has none of them.
fn definition(ty: TensorType) -> Option<Definition> {
    Some(match ty {
        TensorType::F32 => Definition::Float(float::dequantize::<f32>),
        TensorType::F16 => Definition::Float(float::dequantize::<f16>),
        TensorType::BF16 => Definition::Float(float::dequantize::<bf16>),
        TensorType::Q4_0 => by_32::<q4_0::Q4_0>(),
        TensorType::Q4_1 => by_32::<q4_1::Q4_1>(),
        TensorType::Q5_0 => by_32::<q5_0::Q5_0>(),
        TensorType::Q5_1 => by_32::<q5_1::Q5_1>(),
        TensorType::Q8_0 => by_32::<q8_0::Q8_0>(),
        TensorType::Q1_0 => by_32::<q1_0::Q1_0>(),
        TensorType::Q2_0 => by_32::<q2_0::Q2_0>(),
        TensorType::IQ4_NL => by_32::<iq4_nl::IQ4NL>(),
        TensorType::MXFP4 => by_32::<mxfp4::MxFp4>(),
        TensorType::Q2_K => by_256::<q2_k::Q2K>(),
        TensorType::Q3_K => by_256::<q3_k::Q3K>(),
        TensorType::Q4_K => by_256::<q4_k::Q4K>(),
        TensorType::Q5_K => by_256::<q5_k::Q5K>(),
        TensorType::Q6_K => by_256::<q6_k::Q6K>(),
        TensorType::IQ1_S => by_256::<iq1_s::IQ1S>(),
        TensorType::IQ1_M => by_256::<iq1_m::IQ1M>(),
        TensorType::IQ2_XXS => by_256::<iq2_xxs::IQ2XXS>(),
        TensorType::IQ2_XS => by_256::<iq2_xs::IQ2XS>(),
        TensorType::IQ2_S => by_256::<iq2_s::IQ2S>(),
        TensorType::IQ3_XXS => by_256::<iq3_xxs::IQ3XXS>(),
        TensorType::IQ3_S => by_256::<iq3_s::IQ3S>(),
        TensorType::IQ4_XS => by_256::<iq4_xs::IQ4XS>(),
        TensorType::TQ1_0 => by_256::<tq1_0::TQ1_0>(),
        TensorType::TQ2_0 => by_256::<tq2_0::TQ2_0>(),
        TensorType::NVFP4 => Definition::Nvfp4,
        _ => return None,
    })
}

const fn by_32<F: Block32>() -> Definition {
    Definition::Block32(block32::Definition::of::<F>())
}

const fn by_256<F: Block256>() -> Definition {
    Definition::Block256(block256::Definition::of::<F>())
}

/// Whether a tensor type has a compute format.
pub fn is_supported(ty: TensorType) -> bool {
    definition(ty).is_some()
}

/// Every tensor type that has a compute format.
pub fn supported() -> impl Iterator<Item = TensorType> {
    TensorType::all().filter(|ty| is_supported(*ty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use realm_testkit::random::{self, Random};

    #[test]
    fn unpacked_groups_give_the_dequantised_values_of_every_quantised_type() {
        for ty in random::block_types() {
            let tensor = random::tensor(&mut Random::new(7), "w", &[512, 5], ty, 0.1);
            let mut wanted = vec![0.0; 5 * 512];
            dequantize(ty, tensor.bytes(), &mut wanted).unwrap();
            let mut groups = vec![Group::default(); wanted.len() / Group::LEN];
            unpack(ty, tensor.bytes(), &mut groups).unwrap();
            for (i, wanted) in wanted.iter().enumerate() {
                let got = groups[i / Group::LEN].value(i % Group::LEN);
                let error = (got - wanted).abs();
                assert!(error <= 1e-6 * wanted.abs().max(0.1), "{ty}: {got} for {wanted} at {i}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_blocks_is_refused() {
        let mut groups = [Group::default(); 8];
        let mut refused =
            |ty, n_bytes, n| unpack(ty, &vec![0; n_bytes], &mut groups[..n]).unwrap_err();
        let error = refused(TensorType::F16, 64, 1);
        assert!(matches!(error, Error::Unsupported { ty: TensorType::F16 }));
        assert!(matches!(refused(TensorType::Q4_K, 144, 7), Error::Blocks { .. }));
        assert!(matches!(refused(TensorType::Q4_K, 143, 8), Error::Length { .. }));
    }
}
