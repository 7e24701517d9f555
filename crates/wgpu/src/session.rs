//! A program ready to run: buffers, bind groups, and one submission per call.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::{cast_slice, cast_slice_mut};
use realm_ir::{
    BatchLimits, BatchView, Error, Program, ReadFuture, Result, Session, SessionConfig, Slot,
    SlotInfo, TopFuture,
};

use crate::NAME;
use crate::additions::Additions;
use crate::batch;
use crate::gpu::{Gpu, word_bytes};
use crate::kernel::bind_group;
use crate::low_rank::LowRankAdapter;
use crate::memory::Memory;
use crate::plan::{Dispatch, Extent, MAX_GRID, Planner, at_least, expect, max_rows};
use crate::product::ProductKernel;
use crate::product::check::Pending;
use crate::signal::Signal;
use crate::top::TopPlan;
use crate::weight::Weight;

/// A session on a device.
pub(crate) struct WgpuSession {
    gpu: Arc<Gpu>,
    program: Arc<Program>,
    /// Held for their buffers' sake.
    weights: Vec<Arc<Weight>>,
    config: SessionConfig,
    memory: Memory,
    segments: Vec<Vec<Dispatch>>,
    /// By slot and number of values.
    tops: HashMap<(usize, usize), TopPlan>,
    batch: BatchBuffer,
    words: Vec<u32>,
    /// What adapters add that this session has run with.
    additions: Vec<Additions>,
    /// Known answers of products that have not been looked at, or what was wrong with them.
    answers: Result<Vec<Pending>>,
    /// Set while a run is put together: where it is set before, one of them panicked.
    is_running: bool,
    /// Makes the next run panic in its middle.
    #[cfg(test)]
    breaks: bool,
}

/// Where batches are uploaded to.
struct BatchBuffer {
    buffer: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
}

impl BatchBuffer {
    fn new(gpu: &Gpu, layout: &wgpu::BindGroupLayout, n_words: usize) -> Result<Self> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.buffer("batch", word_bytes(&[n_words]), usage)?;
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
        if config.max_rows.max(config.max_outputs) > MAX_GRID {
            let what = format!("a batch of more than {MAX_GRID} rows");
            return Err(Error::Unsupported { what, backend: NAME });
        }
        expect("weights of a program", weights.len(), program.weights.len())?;
        at_least("positions of a page", config.kv.page_tokens, 1)?;
        let memory = Memory::new(&gpu, &program, &config)?;
        let n_words = batch::n_words(config.max_rows, config.max_outputs, config.kv.n_pages);
        let batch = BatchBuffer::new(&gpu, &gpu.pipelines.batch_layout, n_words)?;
        let mut planner = Planner::new(&gpu, &program, &weights, &config, &memory);
        let mut segments = Vec::new();
        for steps in &program.segments {
            let mut dispatches = Vec::new();
            for step in steps {
                dispatches.extend(planner.plan(step)?);
            }
            segments.push(dispatches);
        }
        let answers = ask(&gpu, std::mem::take(&mut planner.kernels))?;
        Ok(WgpuSession {
            gpu,
            additions: Vec::new(),
            answers: Ok(answers),
            program,
            weights,
            config,
            memory,
            segments,
            tops: HashMap::new(),
            batch,
            words: Vec::new(),
            is_running: false,
            #[cfg(test)]
            breaks: false,
        })
    }

    /// Refuses what cannot be relied on: a device that failed, and a session that was left in
    /// the middle of a run.
    fn check_whole(&self) -> Result<()> {
        self.gpu.check()?;
        match self.is_running {
            true => Err(Error::SessionLost { backend: NAME }),
            false => Ok(()),
        }
    }

    fn check(&self, batch: &BatchView<'_>) -> Result<()> {
        batch.check(&BatchLimits {
            max_rows: self.config.max_rows,
            max_outputs: self.config.max_outputs,
            n_vocab: self.program.n_vocab().unwrap_or(usize::MAX),
            page_tokens: self.config.kv.page_tokens,
            n_pages: self.config.kv.n_pages,
            n_states: self.config.states.n_states,
        })?;
        Ok(())
    }

    /// Plans what adapters add that have not been seen before and uploads which rows run with
    /// which; gives their places among the additions.
    fn prepare_additions(&mut self, batch: &BatchView<'_>) -> Result<Vec<usize>> {
        self.additions.retain(Additions::are_in_use);
        let mut used = Vec::new();
        for adapter in batch.sequences.iter().flat_map(|sequence| sequence.adapters) {
            let adapter = LowRankAdapter::of(adapter)?;
            let known = self.additions.iter().position(|known| known.are_of(&adapter));
            let index = match known {
                Some(index) => index,
                None => self.plan_additions(&adapter)?,
            };
            if !used.contains(&index) {
                self.additions[index].write(&self.gpu, batch);
                used.push(index);
            }
        }
        Ok(used)
    }

    fn plan_additions(&mut self, adapter: &Arc<LowRankAdapter>) -> Result<usize> {
        let mut planner =
            Planner::new(&self.gpu, &self.program, &self.weights, &self.config, &self.memory);
        let additions = Additions::new(&mut planner, &self.segments, adapter, &self.config)?;
        let answers = ask(&self.gpu, std::mem::take(&mut planner.kernels))?;
        if let Ok(earlier) = &mut self.answers {
            earlier.extend(answers);
        }
        self.additions.push(additions);
        Ok(self.additions.len() - 1)
    }

    /// Packs and uploads the batch; more page tables than ever make the buffer grow.
    fn upload_batch(&mut self, batch: &BatchView<'_>) -> Result<()> {
        batch::pack(batch, &mut self.words);
        let needed = self.words.len();
        if 4 * needed as u64 > self.batch.buffer.size() {
            // Room for more, as far as a binding has it.
            let most = usize::try_from(self.gpu.max_binding_bytes / 4).unwrap_or(usize::MAX);
            let n_words = needed.next_power_of_two().min(most).max(needed);
            self.batch = BatchBuffer::new(&self.gpu, &self.gpu.pipelines.batch_layout, n_words)?;
        }
        self.gpu.queue.write_buffer(&self.batch.buffer, 0, cast_slice(&self.words));
        Ok(())
    }

    /// Encodes the dispatches of `segments` and submits them.
    fn run_segments(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        let adapters = self.prepare_additions(batch)?;
        self.upload_batch(batch)?;
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        self.memory.encode_copies(&mut encoder);
        #[cfg(test)]
        assert!(!std::mem::take(&mut self.breaks), "a run that a test breaks");
        let extent = Extent::of(batch);
        let mut n_dispatches = 0;
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_bind_group(1, &self.batch.bind_group, &[]);
            for segment in segments {
                for (index, dispatch) in self.segments[segment].iter().enumerate() {
                    let added = adapters.iter().map(|adapter| &self.additions[*adapter]);
                    let added = added.flat_map(|additions| additions.after(segment, index));
                    for dispatch in std::iter::once(dispatch).chain(added) {
                        n_dispatches += u64::from(dispatch.encode(&mut pass, &extent));
                    }
                }
            }
        }
        self.gpu.submit(encoder);
        self.gpu.count_run(n_dispatches, 4 * self.words.len() as u64);
        self.gpu.check()
    }

    /// Looks at known answers that could not be waited for before.
    async fn look(&mut self) -> Result<()> {
        let mut looked = Ok(());
        for pending in std::mem::take(self.answers.as_mut().map_err(|error| error.clone())?) {
            looked = looked.and(pending.look(&self.gpu).await);
        }
        self.answers = looked.clone().map(|()| Vec::new());
        looked
    }

    /// Values of a slot's rows, and the rows that it holds.
    ///
    /// # Errors
    /// `ShapeMismatch` when the program has no such slot.
    fn slot_shape(&self, slot: Slot) -> Result<(usize, usize)> {
        let slots = &self.program.slots;
        at_least("slots of a program", slots.len(), slot.0.saturating_add(1))?;
        let SlotInfo { width, rows } = slots[slot.0];
        Ok((width, max_rows(rows, &self.config)))
    }
}

impl Session for WgpuSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        self.check_whole()?;
        self.check(batch)?;
        self.program.check_range(&segments)?;
        if batch.is_interrupted() {
            return Err(Error::Interrupted);
        }
        self.is_running = true;
        let result = self.run_segments(segments, batch);
        self.is_running = false;
        result
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<()> {
        self.check_whole()?;
        let (width, n_rows) = self.slot_shape(slot)?;
        let most = width * n_rows;
        if !data.len().is_multiple_of(width) || data.len() > most {
            let what = format!("whole rows of {width} for slot {}", slot.0);
            return Err(Error::ShapeMismatch { what, expected: most, found: data.len() });
        }
        self.gpu.queue.write_buffer(&self.memory.slots[slot.0], 0, cast_slice(data));
        self.gpu.check()
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        Box::pin(async move {
            self.check_whole()?;
            let (width, n_rows) = self.slot_shape(slot)?;
            let expected = width.saturating_mul(rows.len());
            if rows.start > rows.end || rows.end > n_rows || out.len() != expected {
                let what = format!("rows {rows:?} of slot {}", slot.0);
                return Err(Error::ShapeMismatch { what, expected, found: out.len() });
            }
            if out.is_empty() {
                return Ok(());
            }
            self.look().await?;
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let staging = self.gpu.buffer("rows to read", word_bytes(&[out.len()]), usage)?;
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            let first = (4 * width * rows.start) as u64;
            let bytes = 4 * out.len() as u64;
            encoder.copy_buffer_to_buffer(&self.memory.slots[slot.0], first, &staging, 0, bytes);
            self.gpu.submit(encoder);
            map(&self.gpu, &staging, cast_slice_mut(out)).await
        })
    }

    fn read_top<'a>(&'a mut self, slot: Slot, n_rows: usize, k: usize) -> Option<TopFuture<'a>> {
        let (width, max_rows) = match self.slot_shape(slot) {
            Ok(shape) => shape,
            Err(error) => return Some(Box::pin(ready(Err(error)))),
        };
        // Few enough numbers of values for each to have pipelines of its own.
        let rounded = k.checked_next_power_of_two()?;
        if !TopPlan::is_possible(width, rounded) || n_rows == 0 {
            return None;
        }
        Some(Box::pin(async move {
            self.check_whole()?;
            if n_rows > max_rows {
                let what = format!("rows of slot {}", slot.0);
                return Err(Error::ShapeMismatch { what, expected: max_rows, found: n_rows });
            }
            self.look().await?;
            let plan = match self.tops.entry((slot.0, rounded)) {
                Entry::Occupied(plan) => plan.into_mut(),
                Entry::Vacant(place) => place.insert(TopPlan::new(
                    &self.gpu,
                    &self.memory.slots[slot.0],
                    width,
                    max_rows,
                    rounded,
                )?),
            };
            let (staging, n_words) = plan.submit(&self.gpu, &self.batch.bind_group, n_rows);
            let mut words = vec![0; n_words];
            map(&self.gpu, staging, cast_slice_mut(&mut words)).await?;
            let mut rows = plan.rows(&words);
            rows.iter_mut().for_each(|row| row.truncate(k));
            Ok(rows)
        }))
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        self.check_whole()?;
        self.memory.copy_page(from, to)
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<()> {
        self.check_whole()?;
        self.memory.copy_state(from, to)
    }
}

/// Asks for the known answers of kernels. Natively they are looked at, too; a browser cannot wait
/// here, the next read does.
fn ask(gpu: &Gpu, kernels: HashSet<ProductKernel>) -> Result<Vec<Pending>> {
    let pending = Pending::ask(gpu, kernels)?;
    gpu.flush();
    gpu.check()?;
    #[cfg(not(target_arch = "wasm32"))]
    let pending = match pending {
        Some(pending) => {
            pollster::block_on(pending.look(gpu))?;
            None
        }
        None => None,
    };
    Ok(pending.into_iter().collect())
}

/// Waits until the first bytes of `staging` can be read and fills `out` with them.
pub(crate) async fn map(gpu: &Gpu, staging: &wgpu::Buffer, out: &mut [u8]) -> Result<()> {
    let bytes = out.len() as u64;
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
        Ok(view) => out.copy_from_slice(&view),
        Err(error) => return lost(error.to_string()),
    }
    staging.unmap();
    gpu.count_read(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use realm_ir::{Backend, Coded, ErrorCode, Uploaded};
    use realm_testkit::program::{Call, Decoder, Model, Size, read};

    use super::*;
    use crate::{WgpuBackend, WgpuOptions, devices_blocking};

    fn open(backend: &WgpuBackend, model: &Model, uploaded: &[Uploaded]) -> WgpuSession {
        let weights = uploaded.iter().map(|weight| weight.clone().downcast().expect("our own"));
        let (gpu, config) = (backend.shared_gpu(), model.config(Size::default()));
        WgpuSession::new(gpu, model.program.clone(), weights.collect(), config).unwrap()
    }

    #[test]
    fn a_run_that_panicked_loses_its_session_and_no_other() {
        let device = devices_blocking().first().expect("a device: install a driver").name.clone();
        let options = WgpuOptions { device: Some(device), ..Default::default() };
        let backend = WgpuBackend::new(options).unwrap();
        let model = Decoder::default().build();
        let uploaded: Vec<_> =
            model.program.weights.iter().map(|weight| backend.upload(weight).unwrap()).collect();
        let call = Call::one(&[1, 2, 3], 0, &[0]).and(&[7, 9], 0, &[1]);
        let mut other = open(&backend, &model, &uploaded);
        let wanted = call.logits(&model, &mut other).unwrap();

        let mut session = open(&backend, &model, &uploaded);
        session.breaks = true;
        let run = || call.run(&mut session, model.segments());
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let hidden = model.program.hidden;
        let top = session.read_top(model.program.logits, 1, 1).map(pollster::block_on);
        let results = [
            ("run", call.run(&mut session, model.segments())),
            ("write", session.write(hidden, &[])),
            ("read", read(&model, &mut session, hidden, 1).map(drop)),
            ("read the largest", top.expect("it has kernels for that").map(drop)),
            ("copy a page", session.copy_page(0, 1)),
            ("copy a state", session.copy_state(0, 1)),
        ];
        for (what, result) in results {
            assert_eq!(result.expect_err(what).code(), ErrorCode::ModelLost, "{what}");
        }
        assert_eq!(call.logits(&model, &mut other).unwrap(), wanted);
        drop(session);
        let mut next = open(&backend, &model, &uploaded);
        assert_eq!(call.logits(&model, &mut next).unwrap(), wanted);
    }
}
