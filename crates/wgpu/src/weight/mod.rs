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
use realm_ir::{Error, Result, StepKind};
use realm_quant::Group;

use crate::NAME;
use crate::gpu::Gpu;
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
    pub planes: [usize; 4],
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
        // Several matrices are one after another: experts, or heads.
        let matrix_rows = if tensor.shape().len() > 2 { tensor.shape()[1] } else { 1 };
        let n_rows = tensor.n_rows();
        let part_rows = part_rows(gpu, format, tensor.row_len(), n_rows, matrix_rows);
        let mut parts = Vec::new();
        for first in (0..n_rows).step_by(part_rows) {
            let rows = first..n_rows.min(first + part_rows);
            parts.push(upload_part(gpu, tensor, format, rows)?);
        }
        gpu.flush();
        gpu.check()?;
        gpu.count_weight(tensor.n_bytes() as u64);
        let (name, width) = (tensor.name().to_owned(), tensor.row_len());
        Ok(Weight { name, width, n_rows, format, parts })
    }

    /// The buffer with the values one after another, when they are F32 and in one part.
    pub fn values(&self) -> Option<&wgpu::Buffer> {
        match &self.parts[..] {
            [part] if self.format.ty == TensorType::F32 => Some(&part.buffer),
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
        step: StepKind::Linear,
        supported: types().map(TensorType::name).collect::<Vec<_>>().join(", "),
    }
}

/// The most rows of a part: whole matrices, and as many as fit in a binding, at least one.
fn part_rows(gpu: &Gpu, format: &Format, width: usize, n_rows: usize, matrix_rows: usize) -> usize {
    let fits = |rows: usize| 4 * format.words(rows * width) <= gpu.max_binding_bytes;
    if fits(n_rows) {
        return n_rows;
    }
    let matrix_bytes = 4 * format.words(matrix_rows * width);
    let mut n_matrices = (gpu.max_binding_bytes / matrix_bytes).max(1);
    // Planes are rounded up to words, each by less than a word.
    while n_matrices > 1 && !fits(n_matrices * matrix_rows) {
        n_matrices -= 1;
    }
    n_matrices * matrix_rows
}

fn upload_part(
    gpu: &Gpu,
    tensor: &TensorData,
    format: &Format,
    rows: Range<usize>,
) -> Result<Part> {
    let bytes = rows.start * tensor.row_bytes()..rows.end * tensor.row_bytes();
    let n_values = rows.len() * tensor.row_len();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.buffer(tensor.name(), 4 * format.words(n_values), usage)?;
    let mut planes = [0; 4];
    for (index, words) in format.plane_words(n_values).into_iter().take(3).enumerate() {
        planes[index + 1] = planes[index] + words;
    }
    let piece_bytes = PIECE_VALUES / tensor.ty().block_len() * tensor.ty().block_bytes();
    let (mut groups, mut scratch) = (Vec::new(), Planes::default());
    for (index, start) in bytes.clone().step_by(piece_bytes).enumerate() {
        let piece = &*tensor.read(start..bytes.end.min(start + piece_bytes))?;
        let first = index * PIECE_VALUES;
        let n_values = piece.len() / tensor.ty().block_bytes() * tensor.ty().block_len();
        match &format.values {
            Values::Floats(size) if format.ty == tensor.ty() => {
                gpu.queue.write_buffer(&buffer, (first * size) as u64, piece);
            }
            Values::Floats(size) => {
                let mut values = vec![0.0f32; n_values];
                realm_quant::dequantize(tensor.ty(), piece, &mut values)
                    .map_err(|_| unsupported(tensor))?;
                let at = (first * size) as u64;
                gpu.queue.write_buffer(&buffer, at, bytemuck::cast_slice(&values));
            }
            Values::Quants(quants) => {
                groups.resize(n_values / GROUP, Group::default());
                realm_quant::unpack(tensor.ty(), piece, &mut groups)
                    .map_err(|_| unsupported(tensor))?;
                repack::repack(quants, &groups, &mut scratch);
                // Pieces are whole blocks, of which every plane has whole words.
                let before = format.plane_words(first);
                for ((plane, start), before) in scratch.0.iter().zip(planes).zip(before) {
                    let at = 4 * (start + before) as u64;
                    gpu.queue.write_buffer(&buffer, at, bytemuck::cast_slice(plane));
                }
            }
        }
        if (index + 1).is_multiple_of(PIECES_IN_FLIGHT) {
            wait(gpu)?;
        }
    }
    Ok(Part { rows, buffer, planes })
}

/// Waits until the device has what was written; in a browser it does so by itself.
fn wait(gpu: &Gpu) -> Result<()> {
    gpu.flush();
    match gpu.device.poll(wgpu::PollType::wait_indefinitely()) {
        Ok(_) => gpu.check(),
        Err(error) => Err(Error::Unavailable { backend: NAME, reason: error.to_string() }),
    }
}
