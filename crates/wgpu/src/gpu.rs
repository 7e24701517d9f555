//! The device, its queue, what went wrong on it and what was done with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(target_arch = "wasm32")]
use futures_channel::oneshot;
use realm_ir::{Error, Result};

use crate::NAME;
use crate::device::DeviceDescription;
use crate::kernel::Pipelines;
use crate::product::{self, Products, Tuning, tune};

/// What a backend has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Command buffers submitted: by [`realm_ir::Session::run`], to read, to ask for known answers.
    pub submissions: u64,
    /// Dispatches of [`realm_ir::Session::run`].
    pub dispatches: u64,
    /// Bytes uploaded for it: the batches.
    pub batch_bytes: u64,
    /// Bytes of weights uploaded.
    pub weight_bytes: u64,
    /// Bytes read back.
    pub read_bytes: u64,
    /// Bytes of all buffers that were made, those that are gone included.
    pub buffer_bytes: u64,
}

/// An open device; sessions and weights share it.
pub(crate) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Most bytes of one binding, and so of one buffer.
    pub max_binding_bytes: u64,
    /// What the system says of it.
    pub description: DeviceDescription,
    /// Bound where a kernel declares an operand that a step does not have.
    pub nothing: wgpu::Buffer,
    /// Bound where a kernel declares a result that a step does not have.
    pub nowhere: wgpu::Buffer,
    /// Pipelines of everything but matrix products, shared by all sessions.
    pub pipelines: Pipelines,
    /// Pipelines of matrix products, shared by all sessions.
    pub products: Products,
    /// The kernels that products prefer.
    pub tuning: Tuning,
    failure: Failure,
    submissions: AtomicU64,
    dispatches: AtomicU64,
    batch_bytes: AtomicU64,
    weight_bytes: AtomicU64,
    read_bytes: AtomicU64,
    buffer_bytes: AtomicU64,
    /// What the browser has yet to say about allocations.
    #[cfg(target_arch = "wasm32")]
    allocations: Mutex<Vec<Allocation>>,
}

/// An allocation whose error scope was closed.
#[cfg(target_arch = "wasm32")]
struct Allocation {
    what: String,
    bytes: usize,
    /// Whether it failed, once that is known.
    failed: oneshot::Receiver<bool>,
}

/// The first thing that went wrong on the device.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    fn lock(&self) -> MutexGuard<'_, Option<Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, reason: String) {
        tracing::error!(%reason, "the device failed");
        self.lock().get_or_insert(Error::DeviceLost { backend: NAME, reason });
    }
}

/// Most bytes of a buffer, whatever a device allows: shaders count words in 32 bits.
const MOST_BYTES: u64 = 4 * u32::MAX as u64;

/// Bytes of an array of words with these dimensions; so many that no buffer has them where
/// they cannot be counted.
pub(crate) fn word_bytes(dimensions: &[usize]) -> u64 {
    dimensions.iter().fold(4, |bytes: u64, dimension| bytes.saturating_mul(*dimension as u64))
}

/// The refusal of a buffer above the limit, with what to lower if anything helps.
pub(crate) fn too_large(what: &str, bytes: u64, limit: u64, remedy: Option<&str>) -> Error {
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    let what =
        format!("{what} of {bytes} bytes in one buffer (this device has {limit} at most{remedy})");
    Error::Unsupported { what, backend: NAME }
}

/// What to lower where something has too many values for all rows of a batch.
pub(crate) const LOWER_ROWS: &str =
    "lower the rows of a batch, which for an encoder is contextLength";

impl Gpu {
    /// Opens `card` with all its limits, none above `max_binding_bytes`, for products with
    /// the kernels that `tuning` says or the fastest ones.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be opened.
    pub async fn open(
        card: &wgpu::Adapter,
        max_binding_bytes: Option<usize>,
        tuning: Option<Tuning>,
    ) -> Result<Self> {
        let limits = card.limits();
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("realm"),
            required_features: card.features() & product::FEATURES,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = card
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::Unavailable { backend: NAME, reason: error.to_string() })?;
        let description = DeviceDescription::of(card);
        tracing::info!(name = description.name, api = description.api, "opened a device");

        let failure = Failure::default();
        let on_error = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            on_error.record(error.to_string());
        }));
        let on_lost = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            on_lost.record(format!("device lost ({reason:?}): {message}"));
        });

        let [nothing, nowhere] = ["nothing", "nowhere"].map(|label| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: 16,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        });
        let binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let binding = binding.min(MOST_BYTES).min(max_binding_bytes.map_or(u64::MAX, |n| n as u64));
        let mut gpu = Gpu {
            pipelines: Pipelines::new(&device),
            device,
            queue,
            max_binding_bytes: binding,
            description,
            nothing,
            nowhere,
            products: Products::default(),
            tuning: Tuning::default(),
            failure,
            submissions: AtomicU64::new(0),
            dispatches: AtomicU64::new(0),
            batch_bytes: AtomicU64::new(0),
            weight_bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            buffer_bytes: AtomicU64::new(0),
            #[cfg(target_arch = "wasm32")]
            allocations: Mutex::default(),
        };
        gpu.tuning = match tuning {
            Some(tuning) => tuning.within(gpu.device.features()),
            None => tune::fastest(&gpu).await?,
        };
        Ok(gpu)
    }

    /// The failure of the device, if it had one.
    pub fn check(&self) -> Result<()> {
        match &*self.failure.lock() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// That a buffer may have `bytes` bytes.
    ///
    /// # Errors
    /// `Unsupported` above the limit of a binding.
    pub fn require_binding(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes <= self.max_binding_bytes {
            return Ok(());
        }
        Err(too_large(what, bytes, self.max_binding_bytes, None))
    }

    /// That a step's dispatches can hand so many bytes to each other.
    ///
    /// # Errors
    /// `Unsupported` above the limit of a binding.
    pub fn require_scratch(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes <= self.max_binding_bytes {
            return Ok(());
        }
        Err(too_large(what, bytes, self.max_binding_bytes, Some(LOWER_ROWS)))
    }

    /// A buffer of `bytes` bytes, at least 16, zeroed.
    ///
    /// # Errors
    /// `Unsupported` above the limit of a binding, `OutOfMemory`.
    pub fn buffer(
        &self,
        what: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer> {
        self.require_binding(what, bytes)?;
        let descriptor = wgpu::BufferDescriptor {
            label: Some(what),
            size: bytes.next_multiple_of(4).max(16),
            usage,
            mapped_at_creation: false,
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let out_of_memory = || Error::OutOfMemory { what: what.to_owned(), bytes };
        let buffer = self.allocate(&descriptor).ok_or_else(out_of_memory)?;
        self.buffer_bytes.fetch_add(descriptor.size, Ordering::Relaxed);
        Ok(buffer)
    }

    /// `None` when there is no memory.
    #[cfg(not(target_arch = "wasm32"))]
    fn allocate(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Option<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(descriptor);
        pollster::block_on(scope.pop()).is_none().then_some(buffer)
    }

    /// A browser tells later: see [`Gpu::settle`].
    #[cfg(target_arch = "wasm32")]
    fn allocate(&self, descriptor: &wgpu::BufferDescriptor<'_>) -> Option<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(descriptor);
        // Closed now: scopes end in the order in which they began.
        let error = scope.pop();
        let (sender, failed) = oneshot::channel();
        // Nobody asks any more when the receiver is gone.
        wasm_bindgen_futures::spawn_local(async move {
            let _ = sender.send(error.await.is_some());
        });
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).push(Allocation {
            what: descriptor.label.unwrap_or_default().to_owned(),
            bytes: descriptor.size as usize,
            failed,
        });
        Some(buffer)
    }

    /// Waits until all allocations so far are known to have succeeded.
    ///
    /// # Errors
    /// `OutOfMemory` naming the first that did not.
    #[cfg(target_arch = "wasm32")]
    pub async fn settle(&self) -> Result<()> {
        let allocations =
            std::mem::take(&mut *self.allocations.lock().unwrap_or_else(PoisonError::into_inner));
        let mut result = Ok(());
        for Allocation { what, bytes, failed } in allocations {
            if failed.await == Ok(true) && result.is_ok() {
                result = Err(Error::OutOfMemory { what, bytes });
            }
        }
        result
    }

    /// Waits until all allocations so far are known to have succeeded: natively they are.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// A read-only storage buffer that holds `data`.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn constant(&self, what: &str, data: &[u8]) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.buffer(what, data.len() as u64, usage)?;
        self.queue.write_buffer(&buffer, 0, data);
        Ok(buffer)
    }

    /// The pipeline of a kernel's text, whose entry point is `main`.
    pub fn pipeline(
        &self,
        label: &str,
        text: String,
        layout: &wgpu::PipelineLayout,
        constants: &[(&str, f64)],
    ) -> wgpu::ComputePipeline {
        let label = Some(label);
        let descriptor =
            wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(text.into()) };
        // Counters that end loops, natively, keep drivers from unrolling them.
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..Default::default() };
        // SAFETY: the text is our own, and every loop of it counts to a bound. Where it reads and
        // writes stays checked.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, checks) };
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Everything is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        })
    }

    /// Hands over what was written to buffers, so that staging memory is freed.
    pub fn flush(&self) {
        self.queue.submit([]);
    }

    /// Hands over commands.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) {
        self.queue.submit([encoder.finish()]);
        self.submissions.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_run(&self, dispatches: u64, batch_bytes: u64) {
        self.dispatches.fetch_add(dispatches, Ordering::Relaxed);
        self.batch_bytes.fetch_add(batch_bytes, Ordering::Relaxed);
    }

    pub fn count_weight(&self, bytes: u64) {
        self.weight_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn count_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn counters(&self) -> Counters {
        Counters {
            submissions: self.submissions.load(Ordering::Relaxed),
            dispatches: self.dispatches.load(Ordering::Relaxed),
            batch_bytes: self.batch_bytes.load(Ordering::Relaxed),
            weight_bytes: self.weight_bytes.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            buffer_bytes: self.buffer_bytes.load(Ordering::Relaxed),
        }
    }
}
