//! Values of single tensors.

use realm_gguf::Gguf;

use crate::error::{Error, Result};

/// A tensor in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Values, the first dimension contiguous.
    pub data: Vec<f32>,
    /// GGUF's order: `shape[0]` is the length of a row.
    pub shape: Vec<usize>,
    /// Storage type in the file.
    pub ty: String,
}

/// Dequantises the tensor called `name`.
///
/// # Errors
/// `INVALID_ARGUMENT` when there is none, `MODEL_UNSUPPORTED` for a type without a
/// definition, `OUT_OF_MEMORY`.
pub fn read_tensor(gguf: &Gguf, name: &str) -> Result<Tensor> {
    let tensor = gguf
        .tensor(name)
        .ok_or_else(|| Error::invalid(format!("the file has no tensor called \"{name}\"")))?;
    let n_values = tensor.shape().iter().product();
    let mut data = room(Some(n_values), name)?;
    data.resize(n_values, 0.0);
    realm_quant::dequantize(tensor.ty(), tensor.fetch()?.bytes(), &mut data)?;
    Ok(Tensor { data, shape: tensor.shape().to_vec(), ty: tensor.ty().name().to_owned() })
}

/// Most values of one result: 4 GiB.
const MAX_RESULT_VALUES: usize = 1 << 30;

/// An empty vector with room for a result of `n_values` (none: more than can be counted), without
/// ending the process when there is not enough memory. None of it is touched: with gigabytes
/// that takes as long as many steps.
pub(crate) fn room(n_values: Option<usize>, what: &str) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    match n_values.filter(|n| *n <= MAX_RESULT_VALUES) {
        Some(n) if out.try_reserve_exact(n).is_ok() => Ok(out),
        _ => {
            let n_values = n_values.map_or("too many".into(), |n| n.to_string());
            Err(Error::OutOfMemory {
                message: format!(
                    "{what}: no room for {n_values} values; a result takes at most {MAX_RESULT_VALUES}"
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_result_is_there_before_any_of_it_is_touched() {
        let out = room(Some(1000), "a result").unwrap();
        assert_eq!((out.len(), out.capacity()), (0, 1000));
        assert!(room(Some(MAX_RESULT_VALUES + 1), "a result").is_err());
        assert!(room(None, "a result").is_err());
    }
}
