//! Weights on the device: formats, planes, parts.
//!
//! A shader wants aligned words, and the quants of one group of 32 values side by side. So a
//! block is taken apart and dealt out into planes, one after another in a buffer ([`Format`],
//! `repack.rs`). A weight that is larger than a binding may be is split by rows into parts,
//! each with its own buffer; of a weight that holds several matrices no matrix is split.
//!
//! Repacking goes piece by piece: beside the file's bytes there is never more than a piece.

mod format;
mod repack;

use std::ops::Range;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{Error, Result};
use realm_quant::Group;

use crate::NAME;
use crate::gpu::Gpu;
use crate::product::MOST_OUTS;
pub(crate) use format::{BLOCK_GROUPS, Format, Quants, Scales, Values, format, types};
use repack::Planes;
pub(crate) use repack::pack;

/// Values of a weight that are kept together.
pub(crate) const GROUP: usize = Group::LEN;

/// Values that are repacked before they are handed to the device: whole blocks of all types.
const PIECE_VALUES: usize = 1 << 19;

/// Pieces handed over before they are waited for: what bounds the memory that they are staged in.
const PIECES_IN_FLIGHT: usize = 8;

/// Rows of a weight that lie in a buffer of their own.
pub(crate) struct Part {
    pub rows: Range<usize>,
    pub buffer: wgpu::Buffer,
    /// Words of the buffer where the planes begin.
    pub planes: [u64; 4],
    /// Which row of the buffer is the first of these: before it may lie another weight's.
    pub first_row: usize,
}

/// A weight as `upload` made it.
pub(crate) struct Weight {
    pub name: String,
    pub width: usize,
    pub n_rows: usize,
    pub format: &'static Format,
    pub parts: Vec<Part>,
}

impl Weight {
    /// Repacks `tensor` and copies it to the device.
    ///
    /// # Errors
    /// `UnsupportedType`, `OutOfMemory`, or `Unsupported` when one matrix of several, or one
    /// row, is larger than a binding.
    pub fn upload(gpu: &Gpu, tensor: &TensorData) -> Result<Self> {
        let format = kept_as(tensor).ok_or_else(|| unsupported(tensor))?;
        let n_rows = tensor.n_rows();
        let part_rows = part_rows(gpu, format, tensor.row_len(), n_rows, matrix_rows(tensor));
        let mut parts = Vec::new();
        for first in (0..n_rows).step_by(part_rows) {
            let rows = first..n_rows.min(first + part_rows);
            let n_values = rows.len() as u64 * tensor.row_len() as u64;
            let (buffer, planes) = room(gpu, tensor, format, n_values)?;
            let part = Part { rows, buffer, planes, first_row: 0 };
            fill(gpu, tensor, format, &part)?;
            parts.push(part);
        }
        Weight::new(gpu, tensor, format, parts)
    }

    /// Repacks matrices that [`side_by_side`] put together, into one buffer.
    ///
    /// # Errors
    /// Those of [`Weight::upload`].
    pub fn upload_together(gpu: &Gpu, tensors: &[&TensorData]) -> Result<Vec<Self>> {
        let &[first, _, ..] = tensors else {
            return tensors.iter().map(|tensor| Weight::upload(gpu, tensor)).collect();
        };
        let format = kept_as(first).ok_or_else(|| unsupported(first))?;
        let n_values = tensors.iter().copied().map(n_values).sum();
        let (buffer, planes) = room(gpu, first, format, n_values)?;
        let mut first_row = 0;
        let mut weights = Vec::new();
        for tensor in tensors {
            let rows = 0..tensor.n_rows();
            let part = Part { rows, buffer: buffer.clone(), planes, first_row };
            fill(gpu, tensor, format, &part)?;
            first_row += tensor.n_rows();
            weights.push(Weight::new(gpu, tensor, format, vec![part])?);
        }
        Ok(weights)
    }

    fn new(
        gpu: &Gpu,
        tensor: &TensorData,
        format: &'static Format,
        parts: Vec<Part>,
    ) -> Result<Self> {
        gpu.flush();
        gpu.check()?;
        gpu.count_weight(tensor.n_bytes() as u64);
        // The device has them; of a mapped file they need not stay in memory.
        tensor.release();
        let (name, width, n_rows) = (tensor.name().to_owned(), tensor.row_len(), tensor.n_rows());
        Ok(Weight { name, width, n_rows, format, parts })
    }

    /// Whether the rows of another weight follow this one's in the same buffer.
    pub fn goes_on_with(&self, next: &Weight) -> bool {
        match (&self.parts[..], &next.parts[..]) {
            ([part], [next]) => {
                part.buffer == next.buffer && part.first_row + self.n_rows == next.first_row
            }
            _ => false,
        }
    }

    /// The buffer with the values one after another, when they are F32 and in one part.
    pub fn values(&self) -> Option<&wgpu::Buffer> {
        match &self.parts[..] {
            [part] if self.format.ty == TensorType::F32 && part.first_row == 0 => {
                Some(&part.buffer)
            }
            _ => None,
        }
    }
}

/// The format that a tensor is kept in: its own, but F32 for vectors, which every step reads
/// as they are, and for floats whose rows are not whole groups.
fn kept_as(tensor: &TensorData) -> Option<&'static Format> {
    let format = format(tensor.ty())?;
    let whole_groups = tensor.row_len().is_multiple_of(GROUP);
    if tensor.n_rows() > 1 && whole_groups { Some(format) } else { self::format(TensorType::F32) }
}

fn unsupported(tensor: &TensorData) -> Error {
    Error::UnsupportedType {
        tensor: tensor.name().to_owned(),
        ty: tensor.ty(),
        backend: NAME,
        step: "Linear",
        supported: types().map(TensorType::name).collect::<Vec<_>>().join(", "),
    }
}

/// The most rows of a part: whole matrices, and as many as fit in a binding, at least one.
fn part_rows(gpu: &Gpu, format: &Format, width: usize, n_rows: usize, matrix_rows: usize) -> usize {
    let bytes = |rows: usize| format.bytes(rows as u64 * width as u64);
    let fits = |rows: usize| bytes(rows) <= gpu.max_binding_bytes;
    if fits(n_rows) {
        return n_rows;
    }
    // Fewer than there are, since all of them do not fit.
    let mut n_matrices = (gpu.max_binding_bytes / bytes(matrix_rows)).max(1) as usize;
    // Planes are rounded up to words, each by less than a word.
    while n_matrices > 1 && !fits(n_matrices * matrix_rows) {
        n_matrices -= 1;
    }
    n_matrices * matrix_rows
}

/// Which of some matrices can lie in one buffer, by their indices: those of one format and
/// width, as many as a dispatch has results for and as fit into a binding.
pub(crate) fn side_by_side(gpu: &Gpu, tensors: &[&TensorData]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let format = kept_as(tensor);
        let joins = |group: &Vec<usize>| {
            let first = tensors[group[0]];
            let all = group.iter().map(|index| n_values(tensors[*index])).sum();
            let Some(format) = format.filter(|format| kept_as(first) == Some(*format)) else {
                return false;
            };
            group.len() < MOST_OUTS
                && first.row_len() == tensor.row_len()
                && [first, tensor].iter().all(|tensor| tensor.shape().len() == 2)
                && format.ends_with_words(all)
                && format.bytes(all + n_values(tensor)) <= gpu.max_binding_bytes
        };
        match groups.iter_mut().find(|group| joins(group)) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Bytes of the buffers that [`Weight::upload_together`] makes.
///
/// # Errors
/// `UnsupportedType`, or `Unsupported` for what is larger than a binding.
pub(crate) fn planned_bytes(gpu: &Gpu, tensors: &[&TensorData]) -> Result<u64> {
    let Some(first) = tensors.first() else { return Ok(0) };
    let format = kept_as(first).ok_or_else(|| unsupported(first))?;
    let (width, n_rows) = (first.row_len(), tensors.iter().map(|tensor| tensor.n_rows()).sum());
    let part_rows = match tensors {
        [tensor] => part_rows(gpu, format, width, n_rows, matrix_rows(tensor)),
        _ => n_rows,
    };
    let mut bytes = 0;
    for first_row in (0..n_rows).step_by(part_rows.max(1)) {
        let rows = part_rows.min(n_rows - first_row);
        let part = format.bytes(rows as u64 * width as u64);
        gpu.require_binding(first.name(), part)?;
        bytes += part;
    }
    Ok(bytes)
}

/// Rows that have to stay together: of several matrices, experts or heads, those of one.
fn matrix_rows(tensor: &TensorData) -> usize {
    if tensor.shape().len() > 2 { tensor.shape()[1] } else { 1 }
}

fn n_values(tensor: &TensorData) -> u64 {
    tensor.n_rows() as u64 * tensor.row_len() as u64
}

/// A buffer for so many values, and where its planes begin.
fn room(
    gpu: &Gpu,
    tensor: &TensorData,
    format: &Format,
    n_values: u64,
) -> Result<(wgpu::Buffer, [u64; 4])> {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.buffer(tensor.name(), format.bytes(n_values), usage)?;
    let mut planes = [0; 4];
    for (index, words) in format.plane_words(n_values).into_iter().take(3).enumerate() {
        planes[index + 1] = planes[index] + words;
    }
    Ok((buffer, planes))
}

/// Repacks rows of `tensor` to their place in a buffer.
fn fill(gpu: &Gpu, tensor: &TensorData, format: &Format, part: &Part) -> Result<()> {
    let Part { rows, buffer, planes, first_row } = part;
    let bytes = rows.start * tensor.row_bytes()..rows.end * tensor.row_bytes();
    let first_value = *first_row as u64 * tensor.row_len() as u64;
    let piece_bytes = PIECE_VALUES / tensor.ty().block_len() * tensor.ty().block_bytes();
    let (mut groups, mut scratch) = (Vec::new(), Planes::default());
    for (index, start) in bytes.clone().step_by(piece_bytes).enumerate() {
        let piece = &*tensor.read(start..bytes.end.min(start + piece_bytes))?;
        let first = first_value + index as u64 * PIECE_VALUES as u64;
        let n_values = piece.len() / tensor.ty().block_bytes() * tensor.ty().block_len();
        match &format.values {
            Values::Floats(size) if format.ty == tensor.ty() => {
                gpu.queue.write_buffer(buffer, first * *size as u64, piece);
            }
            Values::Floats(size) => {
                let mut values = vec![0.0f32; n_values];
                realm_quant::dequantize(tensor.ty(), piece, &mut values)
                    .map_err(|_| unsupported(tensor))?;
                let at = first * *size as u64;
                gpu.queue.write_buffer(buffer, at, bytemuck::cast_slice(&values));
            }
            Values::Quants(quants) => {
                groups.resize(n_values / GROUP, Group::default());
                realm_quant::unpack(tensor.ty(), piece, &mut groups)
                    .map_err(|_| unsupported(tensor))?;
                repack::repack(quants, &groups, &mut scratch);
                // Pieces are whole blocks, of which every plane has whole words.
                let before = format.plane_words(first);
                for ((plane, start), before) in scratch.0.iter().zip(planes).zip(before) {
                    let at = 4 * (start + before);
                    gpu.queue.write_buffer(buffer, at, bytemuck::cast_slice(plane));
                }
            }
        }
        if (index + 1).is_multiple_of(PIECES_IN_FLIGHT) {
            wait(gpu)?;
        }
    }
    Ok(())
}

/// Waits until the device has what was written; in a browser it does so by itself.
fn wait(gpu: &Gpu) -> Result<()> {
    gpu.flush();
    match gpu.device.poll(wgpu::PollType::wait_indefinitely()) {
        Ok(_) => gpu.check(),
        Err(error) => Err(Error::Unavailable { backend: NAME, reason: error.to_string() }),
    }
}
