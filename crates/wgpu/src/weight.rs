//! Weights on the device: formats, planes, parts.
//!
//! A shader wants aligned words, and the quants of one group of 32 values side by
//! side. So a block's bytes are dealt out into planes, each a buffer of its own.
//! A weight whose plane is larger than a binding may be is split by rows into
//! parts, each with its own planes.

mod f32;
mod q4_k;

use std::ops::Range;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{Error, Result, StepKind};

use crate::NAME;
use crate::gpu::Gpu;

/// How weights of one type lie on the device and are read there.
pub(crate) struct Format {
    pub ty: TensorType,
    /// WGSL that declares the planes as bindings 0 and 1 and `weights(group)`.
    pub shader: &'static str,
    /// Values that [`Format::repack`] takes at a time.
    unit: usize,
    /// Bytes of each plane for one unit; a plane may be unused.
    plane_bytes: [usize; 2],
    /// Deals the file's bytes of one unit out into the planes.
    repack: fn(&[u8], [&mut [u8]; 2]),
}

/// Every type that can be uploaded.
static FORMATS: [Format; 2] = [f32::FORMAT, q4_k::FORMAT];

pub(crate) fn format(ty: TensorType) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.ty == ty)
}

/// Values of a weight that a shader reads at once; rows are whole groups.
pub(crate) const GROUP: usize = 32;

/// Rows of a weight that lie in buffers of their own.
pub(crate) struct Part {
    pub rows: Range<usize>,
    pub planes: [wgpu::Buffer; 2],
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
    /// `UnsupportedType`, `OutOfMemory`, or `Unsupported` when one row is larger
    /// than a binding.
    pub fn upload(gpu: &Gpu, tensor: &TensorData) -> Result<Self> {
        let format = format(tensor.ty()).ok_or_else(|| Error::UnsupportedType {
            tensor: tensor.name().to_owned(),
            ty: tensor.ty(),
            backend: NAME,
            step: StepKind::Linear,
            supported: FORMATS.each_ref().map(|format| format.ty.name()).join(", "),
        })?;
        let largest_plane = format.plane_bytes.into_iter().max().unwrap_or(0);
        // Only vectors have rows that are not whole units, and they are one row.
        let row_bytes = tensor.row_len().div_ceil(format.unit) * largest_plane;
        let rows_per_part = (gpu.max_binding_bytes / row_bytes).max(1);
        let mut parts = Vec::new();
        for first in (0..tensor.n_rows()).step_by(rows_per_part) {
            let rows = first..tensor.n_rows().min(first + rows_per_part);
            parts.push(Part { planes: upload_rows(gpu, tensor, format, rows.clone())?, rows });
        }
        gpu.flush();
        gpu.check()?;
        gpu.count_weight(tensor.bytes().len() as u64);
        Ok(Weight {
            name: tensor.name().to_owned(),
            width: tensor.row_len(),
            n_rows: tensor.n_rows(),
            format,
            parts,
        })
    }
}

fn upload_rows(
    gpu: &Gpu,
    tensor: &TensorData,
    format: &Format,
    rows: Range<usize>,
) -> Result<[wgpu::Buffer; 2]> {
    let bytes = &tensor.bytes()[rows.start * tensor.row_bytes()..rows.end * tensor.row_bytes()];
    let unit_bytes = format.unit / tensor.ty().block_len() * tensor.ty().block_bytes();
    let n_units = bytes.len().div_ceil(unit_bytes);
    let mut planes = format.plane_bytes.map(|plane_bytes| vec![0; n_units * plane_bytes]);
    let [first, second] = &mut planes;
    for (index, unit) in bytes.chunks(unit_bytes).enumerate() {
        let part = |bytes: usize| index * bytes..(index + 1) * bytes;
        let planes =
            [&mut first[part(format.plane_bytes[0])], &mut second[part(format.plane_bytes[1])]];
        (format.repack)(unit, planes);
    }
    Ok([gpu.constant(tensor.name(), &planes[0])?, gpu.constant(tensor.name(), &planes[1])?])
}
