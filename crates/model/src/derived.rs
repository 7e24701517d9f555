//! Tensors that are made of a file's. Their bytes are made when a backend takes them, so that
//! a model can be planned without reading its weights.

use std::ops::Range;
use std::sync::Arc;

use realm_gguf::{ReadAt, TensorData, TensorType};

use crate::error::{Error, Result};

/// Ranges of rows one after another, as one tensor of the same name.
pub(crate) fn gather_rows(tensor: &TensorData, rows: &[Range<usize>]) -> Result<TensorData> {
    if let [range] = rows {
        return Ok(tensor.rows(range.clone())?);
    }
    let shape = [tensor.row_len(), rows.iter().map(Range::len).sum()];
    gather(tensor.name(), &shape, tensor, rows)
}

/// The same under another name and in a shape of as many rows.
pub(crate) fn gather(
    name: &str,
    shape: &[usize],
    tensor: &TensorData,
    rows: &[Range<usize>],
) -> Result<TensorData> {
    let mut parts = Vec::with_capacity(rows.len());
    for range in rows {
        parts.push(tensor.rows(range.clone())?);
    }
    let gathered = Arc::new(Gathered { of: tensor.clone(), parts });
    Ok(TensorData::read_from(name, shape, tensor.ty(), gathered)?)
}

/// The first `rows` of each head's `head_rows` rows of `joint`, transposed, in f32: a tensor
/// `[rows, row length, heads]` called `name`.
///
/// # Errors
/// `Unsupported` for a type that cannot be unpacked.
pub(crate) fn transpose_heads(
    name: &str,
    joint: &TensorData,
    head_rows: usize,
    rows: usize,
) -> Result<TensorData> {
    if !realm_quant::is_supported(joint.ty()) {
        let supported: Vec<_> = realm_quant::supported().map(|ty| ty.name()).collect();
        return Err(Error::unsupported(joint.name(), joint.ty(), supported.join(", ")));
    }
    let shape = [rows, joint.row_len(), joint.n_rows() / head_rows];
    let heads = TransposedHeads { joint: joint.clone(), head_rows, rows };
    Ok(TensorData::read_from(name, &shape, TensorType::F32, Arc::new(heads))?)
}

/// Parts of a tensor one after another.
struct Gathered {
    of: TensorData,
    parts: Vec<TensorData>,
}

impl ReadAt for Gathered {
    fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.n_bytes() as u64).sum()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), String> {
        let mut target = Target { offset: offset as usize, out };
        for part in &self.parts {
            target.take(part.n_bytes(), |range| {
                Ok(part.read(range).map_err(|error| error.to_string())?.into_owned())
            })?;
        }
        // What has been read is the reader's.
        self.of.release();
        Ok(())
    }
}

/// See [`transpose_heads`].
struct TransposedHeads {
    joint: TensorData,
    head_rows: usize,
    rows: usize,
}

impl TransposedHeads {
    fn head_bytes(&self) -> usize {
        4 * self.rows * self.joint.row_len()
    }

    fn n_heads(&self) -> usize {
        self.joint.n_rows() / self.head_rows
    }

    /// The bytes of one head.
    fn head(&self, head: usize) -> std::result::Result<Vec<u8>, String> {
        let first = head * self.head_rows;
        let rows = self.joint.rows(first..first + self.rows).and_then(|rows| rows.fetch());
        let rows = rows.map_err(|error| error.to_string())?;
        let width = self.joint.row_len();
        let mut values = vec![0.0; self.rows * width];
        realm_quant::dequantize(rows.ty(), rows.bytes(), &mut values)
            .map_err(|error| error.to_string())?;
        let columns = (0..width).flat_map(|column| values.iter().skip(column).step_by(width));
        Ok(columns.flat_map(|value| value.to_le_bytes()).collect())
    }
}

impl ReadAt for TransposedHeads {
    fn n_bytes(&self) -> u64 {
        self.n_heads() as u64 * self.head_bytes() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), String> {
        let mut target = Target { offset: offset as usize, out };
        for head in 0..self.n_heads() {
            target.take(self.head_bytes(), |range| Ok(self.head(head)?[range].to_vec()))?;
        }
        self.joint.release();
        Ok(())
    }
}

/// What is left to be read, of sources one after another.
struct Target<'a> {
    /// Where it begins in the next source.
    offset: usize,
    out: &'a mut [u8],
}

impl Target<'_> {
    /// Takes what it wants of the next source, which has `len` bytes.
    fn take(
        &mut self,
        len: usize,
        read: impl FnOnce(Range<usize>) -> std::result::Result<Vec<u8>, String>,
    ) -> std::result::Result<(), String> {
        if self.offset >= len || self.out.is_empty() {
            self.offset = self.offset.saturating_sub(len);
            return Ok(());
        }
        let n = self.out.len().min(len - self.offset);
        let bytes = read(self.offset..self.offset + n)?;
        let (own, rest) = std::mem::take(&mut self.out).split_at_mut(n);
        own.copy_from_slice(&bytes);
        (self.out, self.offset) = (rest, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor of rows of two values: `10 * row` and `10 * row + 1`.
    fn tensor(n_rows: usize) -> TensorData {
        let values = (0..n_rows).flat_map(|row| [10.0 * row as f32, 10.0 * row as f32 + 1.0]);
        let bytes = values.flat_map(f32::to_le_bytes).collect();
        TensorData::from_vec("t", &[2, n_rows], TensorType::F32, bytes).unwrap()
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// The whole, and that every part of it is a part of the whole.
    fn read(tensor: &TensorData) -> Vec<f32> {
        let all = tensor.fetch().unwrap().bytes().to_vec();
        assert_eq!(all.len(), tensor.n_bytes());
        for start in 0..all.len() {
            for end in start..=all.len() {
                assert_eq!(*tensor.read(start..end).unwrap(), all[start..end], "{start}..{end}");
            }
        }
        floats(&all)
    }

    #[test]
    fn gathered_rows_come_in_the_order_of_their_ranges() {
        let gathered = gather_rows(&tensor(6), &[4..5, 0..2, 3..3, 5..6]).unwrap();
        assert_eq!(gathered.shape(), [2, 4]);
        assert_eq!(read(&gathered), [40.0, 41.0, 0.0, 1.0, 10.0, 11.0, 50.0, 51.0]);
    }

    #[test]
    fn heads_are_transposed_one_by_one_and_their_other_rows_left_out() {
        let keys = transpose_heads("k", &tensor(6), 3, 2).unwrap();
        assert_eq!((keys.name(), keys.shape()), ("k", &[2, 2, 2][..]));
        assert_eq!(read(&keys), [0.0, 10.0, 1.0, 11.0, 30.0, 40.0, 31.0, 41.0]);
    }
}
