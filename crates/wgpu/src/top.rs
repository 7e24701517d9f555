//! The largest values of a slot's rows, chosen on the device.

use realm_ir::{Result, Top};

use crate::gpu::{Gpu, word_bytes};
use crate::kernel::{Kernel, TOP_OF_TOP, TOP_VALUES};
use crate::plan::MAX_GRID;

/// Values that a workgroup chooses from: `CHUNK` of `top.wgsl`.
const CHUNK: usize = 1024;

/// Column of an entry that stands for no value: `NOTHING` of `top.wgsl`.
const NOTHING: u32 = u32::MAX;

/// Words of an entry: a column and the bits of its value.
const ENTRY_WORDS: usize = 2;

/// What chooses the `k` largest values of each row, ready to be submitted.
pub(crate) struct TopPlan {
    k: usize,
    levels: Vec<Level>,
    result: wgpu::Buffer,
    staging: wgpu::Buffer,
}

/// Of each chunk its `k` largest: the input of the next level, until one chunk is left.
struct Level {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    n_chunks: usize,
}

impl TopPlan {
    /// For `slot`, of at most `max_rows` rows of `width` values.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn new(
        gpu: &Gpu,
        slot: &wgpu::Buffer,
        width: usize,
        max_rows: usize,
        k: usize,
    ) -> Result<Self> {
        let mut levels = Vec::new();
        let mut input = slot.clone();
        let mut n = width;
        let mut kernel: &'static Kernel = &TOP_VALUES;
        loop {
            let n_chunks = n.div_ceil(CHUNK);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            let bytes = word_bytes(&[ENTRY_WORDS, max_rows, n_chunks, k]);
            let output = gpu.buffer("largest values", bytes, usage)?;
            let constants = vec![("n", n as f64), ("k", k as f64), ("row_width", n as f64)];
            levels.push(Level {
                pipeline: gpu.pipelines.pipeline(gpu, kernel, &constants),
                bind_group: gpu.pipelines.bind(gpu, kernel, &[&input, &output]),
                n_chunks,
            });
            input = output;
            if n_chunks == 1 {
                break;
            }
            (n, kernel) = (n_chunks * k, &TOP_OF_TOP);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.buffer("largest values to read", input.size(), usage)?;
        Ok(TopPlan { k, levels, result: input, staging })
    }

    /// Whether the chunks of a row of `width` values are a grid, and get fewer level by level.
    pub fn is_possible(width: usize, k: usize) -> bool {
        (1..=CHUNK / 2).contains(&k) && (1..=MAX_GRID).contains(&width.div_ceil(CHUNK))
    }

    /// Submits the choice from rows `0..n_rows`; gives where to read, and how many words.
    pub fn submit(
        &self,
        gpu: &Gpu,
        batch: &wgpu::BindGroup,
        n_rows: usize,
    ) -> (&wgpu::Buffer, usize) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_bind_group(1, batch, &[]);
            for level in &self.levels {
                pass.set_pipeline(&level.pipeline);
                pass.set_bind_group(0, &level.bind_group, &[]);
                pass.dispatch_workgroups(level.n_chunks as u32, n_rows as u32, 1);
            }
        }
        let n_words = ENTRY_WORDS * self.k * n_rows;
        encoder.copy_buffer_to_buffer(&self.result, 0, &self.staging, 0, 4 * n_words as u64);
        gpu.submit(encoder);
        (&self.staging, n_words)
    }

    /// What was read, by rows.
    pub fn rows(&self, words: &[u32]) -> Vec<Vec<Top>> {
        words.chunks_exact(ENTRY_WORDS * self.k).map(entries).collect()
    }
}

fn entries(words: &[u32]) -> Vec<Top> {
    let entries = words.chunks_exact(ENTRY_WORDS).take_while(|entry| entry[0] != NOTHING);
    entries.map(|entry| Top { column: entry[0], value: f32::from_bits(entry[1]) }).collect()
}
