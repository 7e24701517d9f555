//! Tensors: where they are, and views of their bytes.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::TensorType;
use crate::error::{Error, Result, shown};
use crate::part::File;
use crate::remote::ReadAt;
use crate::view::{Origin, View};

/// GGUF's limit on dimensions.
pub(crate) const MAX_DIMS: usize = 4;

/// Name, shape and type of a tensor, and how many bytes that makes.
#[derive(Clone, Debug)]
struct Layout {
    name: Arc<str>,
    /// `dims[0]` is the contiguous row; those from `n_dims` on are 1.
    dims: [usize; MAX_DIMS],
    n_dims: usize,
    ty: TensorType,
    n_bytes: usize,
}

impl Layout {
    /// Checks that the shape is one GGUF allows, that its sizes can be counted
    /// and that rows are whole blocks.
    fn new(name: Arc<str>, shape: &[u64], ty: TensorType) -> Result<Self> {
        let invalid = |found: String, expected: String| {
            Err(Error::invalid(shown(name.as_bytes()), found, expected))
        };
        if !(1..=MAX_DIMS).contains(&shape.len()) {
            return invalid(
                format!("{} dimensions", shape.len()),
                format!("1 to {MAX_DIMS} dimensions"),
            );
        }
        if shape.contains(&0) {
            return invalid(format!("shape {shape:?}"), "no dimension of 0".into());
        }
        if !shape[0].is_multiple_of(ty.block_len() as u64) {
            return invalid(
                format!("rows of {} values", shape[0]),
                format!("rows of whole {ty} blocks of {} values", ty.block_len()),
            );
        }
        let blocks = shape[1..]
            .iter()
            .try_fold(shape[0] / ty.block_len() as u64, |n, dim| n.checked_mul(*dim));
        let bytes = blocks.and_then(|n| n.checked_mul(ty.block_bytes() as u64));
        // Values are counted too: a block may hold more values than bytes.
        let values = shape.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim));
        let fits = |n: Option<u64>| n.and_then(|n| isize::try_from(n).ok());
        let (Some(n_bytes), Some(_)) = (fits(bytes), fits(values)) else {
            return invalid(
                format!("shape {shape:?}"),
                format!("at most {} values and bytes", isize::MAX),
            );
        };
        let mut dims = [1; MAX_DIMS];
        for (dim, wide) in dims.iter_mut().zip(shape) {
            *dim = *wide as usize;
        }
        Ok(Layout { name, dims, n_dims: shape.len(), ty, n_bytes: n_bytes as usize })
    }

    fn shape(&self) -> &[usize] {
        &self.dims[..self.n_dims]
    }

    /// That the tensor's bytes are so many.
    fn check_len(&self, n_bytes: u64) -> Result<()> {
        if n_bytes == self.n_bytes as u64 {
            return Ok(());
        }
        Err(Error::invalid(
            shown(self.name.as_bytes()),
            format!("{n_bytes} bytes"),
            format!("{} bytes for {} {:?}", self.n_bytes, self.ty, self.shape()),
        ))
    }
}

/// Where a tensor lies, without its bytes.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    layout: Layout,
    part: usize,
    offset: u64,
}

impl TensorInfo {
    pub(crate) fn new(name: &str, shape: &[u64], ty: TensorType, offset: u64) -> Result<Self> {
        Ok(TensorInfo { layout: Layout::new(name.into(), shape, ty)?, part: 0, offset })
    }

    /// GGUF's name, such as `blk.0.attn_q.weight`.
    pub fn name(&self) -> &str {
        &self.layout.name
    }

    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.layout.name.clone()
    }

    /// Dimensions in GGUF's order: `shape()[0]` is the length of a contiguous row.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// How the values are stored.
    pub fn ty(&self) -> TensorType {
        self.layout.ty
    }

    /// Bytes of the whole tensor.
    pub fn n_bytes(&self) -> usize {
        self.layout.n_bytes
    }

    /// Which file of a split model holds the data, from 0.
    pub fn part(&self) -> usize {
        self.part
    }

    /// Byte in that file where the data begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn set_part(&mut self, part: usize) {
        self.part = part;
    }

    /// Makes an offset into the data section one into the file.
    pub(crate) fn shift(&mut self, data_start: u64) -> Option<()> {
        self.offset = self.offset.checked_add(data_start)?;
        Some(())
    }

    /// Byte in the file where the data ends.
    pub(crate) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.layout.n_bytes as u64)
    }

    /// The tensor with its bytes; `file` is the part this tensor was checked against.
    pub(crate) fn data(&self, file: &File) -> TensorData {
        let view = file.view(self.offset, self.layout.n_bytes);
        TensorData { layout: self.layout.clone(), view: view.expect("the header was checked") }
    }
}

/// A tensor's name, shape, type and bytes. Cheap to clone: the bytes are a view
/// that keeps the mapping, or whatever holds them, alive.
///
/// The address of the bytes has no guaranteed alignment.
#[derive(Clone, Debug)]
pub struct TensorData {
    layout: Layout,
    view: View,
}

impl TensorData {
    /// A tensor that owns its bytes: for tests and repacked weights.
    ///
    /// An error when the shape is not one GGUF allows, rows are not whole blocks,
    /// or `bytes` are not as many as shape and type ask for.
    pub fn from_vec(name: &str, shape: &[usize], ty: TensorType, bytes: Vec<u8>) -> Result<Self> {
        let shape: Vec<u64> = shape.iter().map(|dim| *dim as u64).collect();
        let layout = Layout::new(name.into(), &shape, ty)?;
        layout.check_len(bytes.len() as u64)?;
        Ok(TensorData { layout, view: View::new(bytes) })
    }

    /// A tensor whose bytes are all those of `file`, read or made when they are
    /// [fetched](Self::fetch).
    ///
    /// # Errors
    /// Those of [`TensorData::from_vec`].
    pub fn read_from(
        name: &str,
        shape: &[usize],
        ty: TensorType,
        file: Arc<dyn ReadAt>,
    ) -> Result<Self> {
        let shape: Vec<u64> = shape.iter().map(|dim| *dim as u64).collect();
        let layout = Layout::new(name.into(), &shape, ty)?;
        layout.check_len(file.n_bytes())?;
        let view = View::remote(file, 0, layout.n_bytes);
        Ok(TensorData { layout, view })
    }

    /// GGUF's name, such as `blk.0.attn_q.weight`.
    pub fn name(&self) -> &str {
        &self.layout.name
    }

    /// Dimensions in GGUF's order: `shape()[0]` is the length of a contiguous row.
    pub fn shape(&self) -> &[usize] {
        self.layout.shape()
    }

    /// The same tensor with exactly this shape; `None` where the two differ in more than
    /// dimensions of 1 at their end. Files may have these or not: in ggml every shape is four
    /// numbers, 1 where a file gives none.
    pub fn in_shape(&self, shape: &[usize]) -> Option<TensorData> {
        let mut dims = [1; MAX_DIMS];
        dims.get_mut(..shape.len())?.copy_from_slice(shape);
        if shape.is_empty() || dims != self.layout.dims {
            return None;
        }
        let layout = Layout { n_dims: shape.len(), ..self.layout.clone() };
        Some(TensorData { layout, view: self.view.clone() })
    }

    /// How the values are stored.
    pub fn ty(&self) -> TensorType {
        self.layout.ty
    }

    /// All bytes, row after row; none before a tensor of a remote file is
    /// [fetched](Self::fetch).
    pub fn bytes(&self) -> &[u8] {
        self.view.bytes()
    }

    /// How many bytes there are, in memory or not.
    pub fn n_bytes(&self) -> usize {
        self.view.len()
    }

    /// The tensor with its bytes in memory: a clone of this one if they are, else one
    /// that has read them and frees them with its last clone.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::OutOfMemory`], for remote files only.
    pub fn fetch(&self) -> Result<TensorData> {
        let view = self.view.fetch(&shown(self.name().as_bytes()))?;
        Ok(TensorData { layout: self.layout.clone(), view })
    }

    /// Some of the bytes: as they are where they are in memory, else read for this call.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); [`Error::Invalid`] for a range that is not inside.
    pub fn read(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        let name = || shown(self.name().as_bytes());
        let Some(view) = self.view.slice(range.clone()) else {
            let expected = format!("bytes within 0 to {}", self.n_bytes());
            return Err(Error::invalid(name(), format!("bytes {range:?}"), expected));
        };
        match self.bytes().get(range) {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => Ok(Cow::Owned(view.fetch(&name())?.bytes().to_vec())),
        }
    }

    /// Where the bytes lie in a file, if they are mapped: what tells that two tensors are
    /// the same.
    pub fn origin(&self) -> Option<Origin> {
        self.view.origin()
    }

    /// Gives back the memory of a mapped tensor's bytes, which are read from the file
    /// again when they are next used; others keep theirs. For who has a copy.
    pub fn release(&self) {
        self.view.release();
    }

    /// Values in a row: `shape()[0]`.
    pub fn row_len(&self) -> usize {
        self.layout.dims[0]
    }

    /// Rows: the product of all dimensions but the first.
    pub fn n_rows(&self) -> usize {
        self.layout.dims[1..].iter().product()
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.row_len() / self.ty().block_len() * self.ty().block_bytes()
    }

    /// A view of some rows, as a tensor of shape `[row_len, rows.len()]` with the
    /// same name. An empty range gives a tensor of no rows.
    ///
    /// An error when the range is not inside `0..n_rows`.
    pub fn rows(&self, rows: Range<usize>) -> Result<TensorData> {
        if rows.start > rows.end || rows.end > self.n_rows() {
            return Err(Error::invalid(
                shown(self.name().as_bytes()),
                format!("rows {} to {}", rows.start, rows.end),
                format!("rows within 0 to {}", self.n_rows()),
            ));
        }
        // Within the tensor, so no product can overflow.
        let bytes = rows.start * self.row_bytes()..rows.end * self.row_bytes();
        let layout = Layout {
            dims: [self.row_len(), rows.len(), 1, 1],
            n_dims: 2,
            n_bytes: bytes.len(),
            ..self.layout.clone()
        };
        let view = self.view.slice(bytes).expect("the rows are inside the tensor");
        Ok(TensorData { layout, view })
    }
}
