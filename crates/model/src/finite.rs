//! Values of tensors that are no numbers.

use realm_gguf::TensorData;

use crate::error::{Error, Result};

/// Values that are looked at in one go.
const PART: usize = 1 << 16;

/// Looks at every value of a tensor, as long as `goes_on` says so.
///
/// # Errors
/// `MODEL_INVALID` for the first value that is NaN or infinite; `MODEL_UNSUPPORTED` for a type
/// without a definition; what is wrong with reading the bytes.
pub fn check_finite(tensor: &TensorData, goes_on: &dyn Fn() -> bool) -> Result<()> {
    let (ty, len) = (tensor.ty(), tensor.ty().block_len());
    let n_blocks = tensor.n_bytes() / ty.block_bytes();
    let part = (PART / len).clamp(1, n_blocks.max(1));
    let mut values = vec![0.0; part * len];
    for first in (0..n_blocks).step_by(part) {
        if !goes_on() {
            break;
        }
        let blocks = first..n_blocks.min(first + part);
        let values = &mut values[..blocks.len() * len];
        let bytes = tensor.read(blocks.start * ty.block_bytes()..blocks.end * ty.block_bytes())?;
        realm_quant::dequantize(ty, &bytes, values)
            .map_err(|error| Error::unsupported(tensor.name(), ty, error))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("{} at index {}", values[at], first * len + at);
            return Err(Error::invalid(tensor.name(), found, "finite numbers"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use realm_gguf::TensorType;

    use super::*;

    fn check(ty: TensorType, shape: &[usize], bytes: Vec<u8>) -> Result<()> {
        let tensor = TensorData::from_vec("some.weight", shape, ty, bytes).unwrap();
        check_finite(&tensor, &|| true)
    }

    #[test]
    fn every_value_is_looked_at_whatever_the_length_of_rows() {
        for shape in [vec![1], vec![3 * PART + 5], vec![7, PART], vec![PART + 1, 2], vec![2, 3, 4]]
        {
            let n: usize = shape.iter().product();
            for at in [0, n / 2, n - 1] {
                let mut bytes = vec![0; 4 * n];
                check(TensorType::F32, &shape, bytes.clone()).unwrap();
                bytes[4 * at..4 * at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
                let error = check(TensorType::F32, &shape, bytes).unwrap_err().to_string();
                let expected =
                    format!("some.weight: found NaN at index {at}, expected finite numbers");
                assert_eq!(error, expected);
            }
        }
    }

    #[test]
    fn the_scale_of_a_block_is_looked_at_as_the_values_it_makes() {
        // The second block's scale is infinite, and infinity times 0 is no number.
        let mut bytes = vec![0; 3 * 34];
        bytes[34..36].copy_from_slice(&0x7c00u16.to_le_bytes());
        let error = check(TensorType::Q8_0, &[32, 3], bytes).unwrap_err().to_string();
        assert!(error.contains("found NaN at index 32"), "{error}");
    }

    #[test]
    fn who_is_in_a_hurry_looks_no_further() {
        let bytes = vec![0xff; 4 * 8];
        let tensor = TensorData::from_vec("w", &[8], TensorType::F32, bytes).unwrap();
        check_finite(&tensor, &|| false).unwrap();
    }
}
