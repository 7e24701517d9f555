//! A program ready to run: buffers, bind groups, and one submission per call.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::cast_slice;
use realm_ir::{
    BatchLimits, BatchView, Error, KvType, Program, ReadFuture, Result, Rows, Session,
    SessionConfig, Slot, Step,
};

use crate::NAME;
use crate::batch;
use crate::gpu::Gpu;
use crate::kernel::{Pipelines, bind_group};
use crate::plan::{Dispatch, MAX_GRID, Planner};
use crate::rope::MAX_POSITIONS;
use crate::signal::Signal;
use crate::weight::Weight;

/// A session on a device.
pub(crate) struct WgpuSession {
    gpu: Arc<Gpu>,
    program: Arc<Program>,
    /// Held for their buffers' sake and for the size of the vocabulary.
    weights: Vec<Arc<Weight>>,
    config: SessionConfig,
    slots: Vec<wgpu::Buffer>,
    /// One per layer: pages, each with its keys and then its values.
    kv: Vec<wgpu::Buffer>,
    /// Pages are copied through here: a buffer cannot be copied to itself.
    page_scratch: wgpu::Buffer,
    segments: Vec<Vec<Dispatch>>,
    batch_layout: wgpu::BindGroupLayout,
    batch: BatchBuffer,
    words: Vec<u32>,
}

/// Where batches are uploaded to.
struct BatchBuffer {
    buffer: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
}

impl BatchBuffer {
    fn new(gpu: &Gpu, layout: &wgpu::BindGroupLayout, n_words: usize) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.buffer("batch", 4 * n_words, usage)?;
        let bind_group = bind_group(gpu, "batch", layout, &[&buffer]);
        Ok(BatchBuffer { buffer, bind_group })
    }
}

impl WgpuSession {
    /// Allocates and prepares everything that calls will need.
    ///
    /// # Errors
    /// `UnsupportedType`, `Unsupported`, `ShapeMismatch`, `OutOfMemory`, and
    /// `Unavailable` when the device rejects a pipeline.
    pub fn new(
        gpu: Arc<Gpu>,
        program: Arc<Program>,
        weights: Vec<Arc<Weight>>,
        config: SessionConfig,
    ) -> Result<Self> {
        gpu.check()?;
        let unsupported = |what: String| Err(Error::Unsupported { what, backend: NAME });
        if config.kv.ty != KvType::F32 {
            return unsupported(format!("a KV cache of {}", config.kv.ty.as_str()));
        }
        if config.max_rows.max(config.max_outputs) > MAX_GRID {
            return unsupported(format!("a batch of more than {MAX_GRID} rows"));
        }
        let slots = program
            .slots
            .iter()
            .map(|slot| slot_buffer(&gpu, slot.width * n_slot_rows(slot.rows, &config)))
            .collect::<Result<Vec<_>>>()?;
        let layer_page_bytes = layer_page_bytes(&config);
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let kv = layer_page_bytes
            .iter()
            .map(|bytes| gpu.buffer("KV cache of a layer", bytes * config.kv.n_pages, usage))
            .collect::<Result<Vec<_>>>()?;
        let largest_page = layer_page_bytes.into_iter().max().unwrap_or(0);
        let page_scratch = gpu.buffer("KV page", largest_page, usage)?;

        let mut pipelines = Pipelines::new(Arc::clone(&gpu));
        let batch_layout = pipelines.batch_layout.clone();
        let n_words = batch::n_words(config.max_rows, config.max_outputs, config.kv.n_pages);
        let batch = BatchBuffer::new(&gpu, &batch_layout, n_words)?;
        let mut planner =
            Planner::new(&gpu, &program, &weights, &slots, &kv, &config.kv, &mut pipelines);
        let mut segments = Vec::new();
        for steps in &program.segments {
            let mut dispatches = Vec::new();
            for step in steps {
                dispatches.extend(planner.plan(step)?);
            }
            segments.push(dispatches);
        }
        gpu.flush();
        gpu.check()?;
        Ok(WgpuSession {
            gpu,
            program,
            weights,
            config,
            slots,
            kv,
            page_scratch,
            segments,
            batch_layout,
            batch,
            words: Vec::new(),
        })
    }

    fn check(&self, batch: &BatchView<'_>) -> Result<()> {
        let tables = self.program.segments.iter().flatten().filter_map(|step| match step {
            Step::Embed(embed) => Some(self.weights[embed.table.0].n_rows),
            _ => None,
        });
        batch.check(&BatchLimits {
            max_rows: self.config.max_rows,
            max_outputs: self.config.max_outputs,
            n_vocab: tables.min().unwrap_or(usize::MAX),
            page_tokens: self.config.kv.page_tokens,
            n_pages: self.config.kv.n_pages,
            n_states: 0,
        })?;
        if batch.has_adapters() {
            return Err(Error::Unsupported { what: "a LoRA adapter".to_owned(), backend: NAME });
        }
        match batch.positions.iter().find(|position| **position >= MAX_POSITIONS) {
            Some(position) => Err(Error::InvalidBatch {
                message: format!("position {position}, the rotation reaches {MAX_POSITIONS}"),
            }),
            None => Ok(()),
        }
    }

    /// Packs and uploads the batch; more page tables than ever make the buffer grow.
    fn upload_batch(&mut self, batch: &BatchView<'_>) -> Result<()> {
        batch::pack(batch, &mut self.words);
        let needed = self.words.len();
        if 4 * needed as u64 > self.batch.buffer.size() {
            let n_words = needed.next_power_of_two();
            self.batch = BatchBuffer::new(&self.gpu, &self.batch_layout, n_words)?;
        }
        self.gpu.queue.write_buffer(&self.batch.buffer, 0, cast_slice(&self.words));
        Ok(())
    }

    fn n_slot_rows(&self, slot: Slot) -> usize {
        n_slot_rows(self.program.slots[slot.0].rows, &self.config)
    }
}

fn n_slot_rows(rows: Rows, config: &SessionConfig) -> usize {
    match rows {
        Rows::Batch => config.max_rows,
        Rows::Outputs => config.max_outputs,
    }
}

/// Bytes of one page of each layer.
fn layer_page_bytes(config: &SessionConfig) -> Vec<usize> {
    let kv = &config.kv;
    kv.layers.iter().map(|layer| layer.width() * kv.page_tokens * kv.ty.bytes()).collect()
}

fn slot_buffer(gpu: &Gpu, n_values: usize) -> Result<wgpu::Buffer> {
    let usage =
        wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    gpu.buffer("activations", 4 * n_values, usage)
}

impl Session for WgpuSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        self.gpu.check()?;
        self.check(batch)?;
        if batch.is_interrupted() {
            return Err(Error::Interrupted);
        }
        self.upload_batch(batch)?;
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut n_dispatches = 0;
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_bind_group(1, &self.batch.bind_group, &[]);
            for dispatch in self.segments[segments].iter().flatten() {
                let n_outputs = batch.output_rows.len();
                n_dispatches += u64::from(dispatch.encode(&mut pass, batch.n_rows(), n_outputs));
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.count_run(n_dispatches, 4 * self.words.len() as u64);
        self.gpu.check()
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<()> {
        let width = self.program.width(slot);
        let most = width * self.n_slot_rows(slot);
        if !data.len().is_multiple_of(width) || data.len() > most {
            let what = format!("whole rows of {width} for slot {}", slot.0);
            return Err(Error::ShapeMismatch { what, expected: most, found: data.len() });
        }
        self.gpu.queue.write_buffer(&self.slots[slot.0], 0, cast_slice(data));
        self.gpu.check()
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        Box::pin(async move {
            let width = self.program.width(slot);
            let expected = width * rows.len();
            if rows.end > self.n_slot_rows(slot) || out.len() != expected {
                let what = format!("rows {rows:?} of slot {}", slot.0);
                return Err(Error::ShapeMismatch { what, expected, found: out.len() });
            }
            if out.is_empty() {
                return Ok(());
            }
            self.gpu.check()?;
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let staging = self.gpu.buffer("rows to read", 4 * out.len(), usage)?;
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            let first = (4 * width * rows.start) as u64;
            let bytes = 4 * out.len() as u64;
            encoder.copy_buffer_to_buffer(&self.slots[slot.0], first, &staging, 0, bytes);
            self.gpu.queue.submit([encoder.finish()]);
            map(&self.gpu, &staging, bytes, out).await
        })
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        let n_pages = self.config.kv.n_pages;
        if from as usize >= n_pages || to as usize >= n_pages {
            let message = format!("page {from} to {to}, the cache has {n_pages}");
            return Err(Error::InvalidBatch { message });
        }
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        for (kv, bytes) in self.kv.iter().zip(layer_page_bytes(&self.config)) {
            let bytes = bytes as u64;
            let [from, to] = [from, to].map(|page| u64::from(page) * bytes);
            encoder.copy_buffer_to_buffer(kv, from, &self.page_scratch, 0, bytes);
            encoder.copy_buffer_to_buffer(&self.page_scratch, 0, kv, to, bytes);
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.check()
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<()> {
        let message = format!("state {from} to {to}, this backend has none");
        Err(Error::InvalidBatch { message })
    }
}

/// Waits until the first `bytes` of `staging` can be read and copies them.
async fn map(gpu: &Gpu, staging: &wgpu::Buffer, bytes: u64, out: &mut [f32]) -> Result<()> {
    let lost = |reason: String| Err(Error::DeviceLost { backend: NAME, reason });
    let signal = Signal::new();
    let mapped = signal.clone();
    staging.map_async(wgpu::MapMode::Read, ..bytes, move |result| mapped.set(result));
    // Natively this blocks until the device is done; in a browser it does nothing.
    if let Err(error) = gpu.device.poll(wgpu::PollType::wait_indefinitely()) {
        return lost(error.to_string());
    }
    let result = signal.wait().await;
    gpu.check()?;
    if let Err(error) = result {
        return lost(error.to_string());
    }
    match staging.get_mapped_range(..bytes) {
        Ok(view) => out.copy_from_slice(cast_slice(&view)),
        Err(error) => return lost(error.to_string()),
    }
    staging.unmap();
    Ok(())
}
