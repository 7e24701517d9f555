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
    realm_quant::dequantize(tensor.ty(), tensor.fetch()?.bytes(), &mut data)?;
    Ok(Tensor { data, shape: tensor.shape().to_vec(), ty: tensor.ty().name().to_owned() })
}

/// Most values of one result: 4 GiB.
const MAX_RESULT_VALUES: usize = 1 << 30;

/// Room for a result of `n_values` (none: more than can be counted), all of it zero, without
/// ending the process when there is not enough memory.
pub(crate) fn room(n_values: Option<usize>, what: &str) -> Result<Vec<f32>> {
    let mut out = reserve(n_values, what)?;
    out.resize(n_values.unwrap_or_default(), 0.0);
    Ok(out)
}

/// The same with nothing in it yet: gigabytes that are touched at once stop everybody for as
/// long as that takes.
pub(crate) fn reserve(n_values: Option<usize>, what: &str) -> Result<Vec<f32>> {
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
