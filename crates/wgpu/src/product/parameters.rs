//! What a product needs to know beside its operands: `shaders/linear/parameters.wgsl`.

use bytemuck::{Pod, Zeroable};
use realm_ir::Result;

use crate::gpu::Gpu;
use crate::weight::{Part, Weight};

/// Fields are documented where they are read, in `parameters.wgsl`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Parameters {
    pub width: u32,
    pub n_groups: u32,
    pub high_at: u32,
    pub scales_at: u32,
    pub blocks_at: u32,
    pub n_columns: u32,
    pub matrix_rows: u32,
    pub first_row: u32,
    pub n_matrices: u32,
    pub first_matrix: u32,
    pub in_stride: u32,
    pub out_stride: u32,
    pub in_step: u32,
    pub out_step: u32,
    pub first_column: u32,
    pub outputs_per_input: u32,
    pub scale: f32,
    pub flags: u32,
    pub second_at: u32,
    pub third_at: u32,
    pub second_stride: u32,
    pub third_stride: u32,
}

/// Bits of [`Parameters::flags`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags;

impl Flags {
    pub const HAS_BIAS: u32 = 1;
    pub const ACCUMULATE: u32 = 2;
    pub const OF_OUTPUTS: u32 = 4;
    pub const HAS_MATRIX_SCALE: u32 = 8;
    pub const WEIGH_INPUT: u32 = 16;

    /// The bits whose conditions hold.
    pub fn of(flags: &[(u32, bool)]) -> u32 {
        flags.iter().filter(|(_, holds)| *holds).fold(0, |all, (flag, _)| all | flag)
    }
}

impl Parameters {
    /// Those that follow from the part of a weight.
    pub fn of(weight: &Weight, part: &Part) -> Self {
        let [_, high, scales, blocks] = part.planes.map(|at| at as u32);
        Parameters {
            width: weight.width as u32,
            n_groups: super::n_groups(weight.width) as u32,
            high_at: high,
            scales_at: scales,
            blocks_at: blocks,
            n_columns: part.rows.len() as u32,
            first_row: part.first_row as u32,
            outputs_per_input: 1,
            scale: 1.0,
            ..Parameters::default()
        }
    }

    /// A uniform buffer with these values.
    pub fn upload(&self, gpu: &Gpu) -> Result<wgpu::Buffer> {
        // Uniform structs are whole vec4 to some browsers.
        let mut bytes = bytemuck::bytes_of(self).to_vec();
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.buffer("parameters of a product", bytes.len() as u64, usage)?;
        gpu.queue.write_buffer(&buffer, 0, &bytes);
        Ok(buffer)
    }
}
