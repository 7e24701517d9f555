//! What a session keeps on the device: slots, keys and values, recurrent states.

use realm_ir::{Error, KvLayer, KvLayout, Program, Result, SessionConfig};

use crate::gpu::Gpu;
use crate::plan::max_rows;

/// Values of one key or value head are stored in whole quads, the last filled up with zeros.
pub(crate) const QUAD: usize = 4;

/// The buffers of a session.
pub(crate) struct Memory {
    /// One per slot, F32.
    pub slots: Vec<wgpu::Buffer>,
    /// One per layer: pages, each with its keys and then its values.
    pub kv: Vec<wgpu::Buffer>,
    /// One per recurrent step, F32: `[n_states, width]`.
    pub states: Vec<wgpu::Buffer>,
    /// Pages and states are copied through here: a buffer cannot be copied to itself.
    transfer: wgpu::Buffer,
    /// Bytes of one page of each layer.
    page_bytes: Vec<usize>,
    /// Bytes of one state of each recurrent step.
    state_bytes: Vec<usize>,
    n_pages: usize,
    n_states: usize,
}

impl Memory {
    /// Zeroed memory for a program.
    ///
    /// # Errors
    /// `Unsupported` when a buffer would be larger than a binding, `OutOfMemory`.
    pub fn new(gpu: &Gpu, program: &Program, config: &SessionConfig) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let buffer =
            |what, bytes: usize, n: usize| gpu.buffer(what, bytes.saturating_mul(n), usage);
        let page_bytes: Vec<_> =
            config.kv.layers.iter().map(|layer| page_bytes(layer, &config.kv)).collect();
        let state_bytes: Vec<_> = config.states.widths.iter().map(|width| 4 * width).collect();
        let largest = page_bytes.iter().chain(&state_bytes).max().copied().unwrap_or(0);
        let (n_pages, n_states) = (config.kv.n_pages, config.states.n_states);
        Ok(Memory {
            slots: program
                .slots
                .iter()
                .map(|slot| buffer("activations", 4 * slot.width, max_rows(slot.rows, config)))
                .collect::<Result<_>>()?,
            kv: page_bytes
                .iter()
                .map(|bytes| buffer("KV cache of a layer", *bytes, n_pages))
                .collect::<Result<_>>()?,
            states: state_bytes
                .iter()
                .map(|bytes| buffer("recurrent states", *bytes, n_states))
                .collect::<Result<_>>()?,
            transfer: buffer("page or state to copy", largest, 1)?,
            page_bytes,
            state_bytes,
            n_pages,
            n_states,
        })
    }

    /// Copies a page of every layer.
    ///
    /// # Errors
    /// `InvalidBatch` when a page is out of range.
    pub fn copy_page(&self, gpu: &Gpu, from: u32, to: u32) -> Result<()> {
        self.copy(gpu, (&self.kv, &self.page_bytes), ("page", self.n_pages), [from, to])
    }

    /// Copies a state of every recurrent step.
    ///
    /// # Errors
    /// `InvalidBatch` when a state is out of range.
    pub fn copy_state(&self, gpu: &Gpu, from: u32, to: u32) -> Result<()> {
        self.copy(gpu, (&self.states, &self.state_bytes), ("state", self.n_states), [from, to])
    }

    /// Copies one of `n` entries of every buffer to another, each of so many bytes.
    fn copy(
        &self,
        gpu: &Gpu,
        (buffers, bytes): (&[wgpu::Buffer], &[usize]),
        (what, n): (&str, usize),
        [from, to]: [u32; 2],
    ) -> Result<()> {
        if from as usize >= n || to as usize >= n {
            let message = format!("{what} {from} to {to}, the session has {n}");
            return Err(Error::InvalidBatch { message });
        }
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for (buffer, bytes) in buffers.iter().zip(bytes) {
            let bytes = *bytes as u64;
            let [from, to] = [from, to].map(|index| u64::from(index) * bytes);
            encoder.copy_buffer_to_buffer(buffer, from, &self.transfer, 0, bytes);
            encoder.copy_buffer_to_buffer(&self.transfer, 0, buffer, to, bytes);
        }
        gpu.queue.submit([encoder.finish()]);
        gpu.check()
    }
}

/// Bytes of one page of a layer.
pub(crate) fn page_bytes(layer: &KvLayer, layout: &KvLayout) -> usize {
    let quads = layer.key_width.div_ceil(QUAD) + layer.value_width.div_ceil(QUAD);
    layer.n_kv_heads * quads * QUAD * layout.page_tokens * layout.ty.bytes()
}
