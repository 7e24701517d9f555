//! What a session keeps on the device: slots, keys and values, recurrent states.

use std::ops::Range;

use realm_ir::{Error, Program, Result, SessionConfig};

use crate::gpu::Gpu;
use crate::sizes::Sizes;

/// The buffers of a session.
pub(crate) struct Memory {
    /// One per slot, F32.
    pub slots: Vec<wgpu::Buffer>,
    /// Of each layer the buffers that its key and value heads lie in, mostly one.
    pub kv: Vec<Vec<KvBuffer>>,
    /// One per recurrent step, F32: `[n_states, width]`.
    pub states: Vec<wgpu::Buffer>,
    /// Pages and states are copied through here: a buffer cannot be copied to itself.
    transfer: wgpu::Buffer,
    /// Bytes of one state of each recurrent step.
    state_bytes: Vec<u64>,
    n_pages: usize,
    n_states: usize,
    /// To be made before the next run.
    copies: Vec<EntryCopy>,
}

/// Some of a layer's heads: pages, each with its keys and then its values.
pub(crate) struct KvBuffer {
    /// Which heads of the layer.
    pub heads: Range<usize>,
    pub buffer: wgpu::Buffer,
    page_bytes: u64,
}

/// Pages or states by their numbers.
#[derive(Clone, Copy)]
enum EntryCopy {
    Page { from: u32, to: u32 },
    State { from: u32, to: u32 },
}

impl Memory {
    /// Zeroed memory for a program.
    ///
    /// # Errors
    /// Those of [`Sizes::of`], before anything is allocated; `OutOfMemory`.
    pub fn new(gpu: &Gpu, program: &Program, config: &SessionConfig) -> Result<Self> {
        let sizes = Sizes::of(program, config, gpu.max_binding_bytes)?;
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let buffer = |what, bytes: u64| gpu.buffer(what, bytes, usage);
        let (n_pages, n_states) = (config.kv.n_pages, config.states.n_states);
        let transfer = buffer("page or state to copy", sizes.largest_copy())?;
        let slots = sizes.slots.iter().map(|bytes| buffer("activations", *bytes));
        let slots = slots.collect::<Result<_>>()?;
        let mut kv = Vec::new();
        for parts in sizes.kv {
            let mut buffers = Vec::new();
            for part in parts {
                let bytes = part.page_bytes.saturating_mul(n_pages as u64);
                let buffer = buffer("KV cache of a layer", bytes)?;
                let (heads, page_bytes) = (part.heads, part.page_bytes);
                buffers.push(KvBuffer { heads, buffer, page_bytes });
            }
            kv.push(buffers);
        }
        let states = sizes.state_bytes.iter().map(|bytes| {
            let bytes = bytes.saturating_mul(n_states as u64);
            buffer("recurrent states", bytes)
        });
        let states = states.collect::<Result<_>>()?;
        let (state_bytes, copies) = (sizes.state_bytes, Vec::new());
        Ok(Memory { slots, kv, states, transfer, state_bytes, n_pages, n_states, copies })
    }

    /// Notes that a page of every layer is to be copied before anything else runs.
    ///
    /// # Errors
    /// `InvalidBatch` when a page is out of range.
    pub fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        expect_entries("page", self.n_pages, [from, to])?;
        self.copies.push(EntryCopy::Page { from, to });
        Ok(())
    }

    /// Notes that a state of every recurrent step is to be copied before anything else runs.
    ///
    /// # Errors
    /// `InvalidBatch` when a state is out of range.
    pub fn copy_state(&mut self, from: u32, to: u32) -> Result<()> {
        expect_entries("state", self.n_states, [from, to])?;
        self.copies.push(EntryCopy::State { from, to });
        Ok(())
    }

    /// Encodes what has been noted, in its order.
    pub fn encode_copies(&mut self, encoder: &mut wgpu::CommandEncoder) {
        for copy in std::mem::take(&mut self.copies) {
            match copy {
                EntryCopy::Page { from, to } => {
                    for part in self.kv.iter().flatten() {
                        self.encode_copy(encoder, &part.buffer, part.page_bytes, [from, to]);
                    }
                }
                EntryCopy::State { from, to } => {
                    for (buffer, bytes) in self.states.iter().zip(&self.state_bytes) {
                        self.encode_copy(encoder, buffer, *bytes, [from, to]);
                    }
                }
            }
        }
    }

    /// One entry of a buffer to another, of so many bytes each.
    fn encode_copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        bytes: u64,
        entries: [u32; 2],
    ) {
        let [from, to] = entries.map(|entry| u64::from(entry) * bytes);
        encoder.copy_buffer_to_buffer(buffer, from, &self.transfer, 0, bytes);
        encoder.copy_buffer_to_buffer(&self.transfer, 0, buffer, to, bytes);
    }
}

/// # Errors
/// `InvalidBatch` when there are fewer than `n` of `what`.
fn expect_entries(what: &str, n: usize, [from, to]: [u32; 2]) -> Result<()> {
    if (from as usize) < n && (to as usize) < n {
        return Ok(());
    }
    Err(Error::InvalidBatch { message: format!("{what} {from} to {to}, the session has {n}") })
}
