//! The backend: a pool of threads, its own or the process's, and sessions that take turns on it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use realm_gguf::TensorData;
use realm_ir::{
    Adapter, Backend, BackendLimits, Error, KvType, MemoryPlan, Program, Result, Session,
    SessionConfig, Uploaded,
};
use realm_quant::Level;

use crate::NAME;
use crate::adapter::CpuAdapter;
use crate::machine;
use crate::memory;
use crate::pool::Pool;
use crate::session::CpuSession;
use crate::weight::CpuWeight;

/// A batch of 256 rows keeps matrix products busy and takes few enough milliseconds for others
/// to wait; attention reads a page of 32 positions in one go, and a sequence wastes half a page
/// on average.
const LIMITS: BackendLimits = BackendLimits {
    batch_rows: 256,
    output_rows: 32,
    rows_beside_decoding: 64,
    page_tokens: 32,
    most_rows: usize::MAX,
    most_head_width: usize::MAX,
    kv_types: &[KvType::F32, KvType::F16, KvType::Q8_0],
};

/// How to start the backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// Threads to compute with, the calling one included. Default: physical cores
    /// within the process's affinity and quota.
    pub threads: Option<usize>,
    /// Instruction set to compute with. Default: [`Level::best`]. For tests and bug reports:
    /// results are the same at every level of a processor.
    pub level: Option<Level>,
}

/// Runs steps on the CPU. Sessions of one backend share its threads, and those of backends
/// that are [`CpuBackend::shared`]: those that run at the same time get the same time.
pub struct CpuBackend {
    pool: Arc<Pool>,
    level: Level,
}

/// The pools of [`CpuBackend::shared`].
static SHARED: Mutex<Vec<SharedPool>> = Mutex::new(Vec::new());

struct SharedPool {
    /// Whoever had it started left the number of threads open.
    is_default: bool,
    pool: Weak<Pool>,
}

impl CpuBackend {
    /// Most threads that can be asked for.
    pub const MAX_THREADS: usize = 256;

    /// Starts threads that no other backend has.
    ///
    /// # Errors
    /// `Unavailable` when the operating system refuses a thread or `threads` is
    /// not in `1..=MAX_THREADS`.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let threads = options.threads.unwrap_or_else(machine::default_threads);
        let level = options.level.unwrap_or_else(Level::best);
        Ok(CpuBackend { pool: Arc::new(start(threads)?), level })
    }

    /// A backend on the threads that the process has for so many, which are started if there
    /// are none, and end with the last backend and session that use them.
    ///
    /// # Errors
    /// Those of [`CpuBackend::new`].
    pub fn shared(options: CpuOptions) -> Result<Self> {
        let level = options.level.unwrap_or_else(Level::best);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|known| known.pool.strong_count() > 0);
        let is_default = options.threads.is_none();
        // Who leaves the number open gets what it came to the first time: where threads are
        // lent, there are fewer to be had as soon as somebody has some.
        let same = shared.iter().find(|known| is_default && known.is_default);
        let same = same.and_then(|known| known.pool.upgrade());
        let threads = options.threads.unwrap_or_else(machine::default_threads);
        let as_many = || {
            let mut pools = shared.iter().filter_map(|known| known.pool.upgrade());
            pools.find(|pool| pool.n_workers() == threads)
        };
        if let Some(pool) = same.or_else(as_many) {
            return Ok(CpuBackend { pool, level });
        }
        let pool = Arc::new(start(threads)?);
        shared.push(SharedPool { is_default, pool: Arc::downgrade(&pool) });
        Ok(CpuBackend { pool, level })
    }

    /// The instruction set in use.
    pub fn level(&self) -> Level {
        self.level
    }

    #[cfg(all(test, not(target_family = "wasm")))]
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Threads in use, the calling one included.
    pub fn threads(&self) -> usize {
        self.pool.n_workers()
    }
}

fn start(threads: usize) -> Result<Pool> {
    let unavailable = |reason: String| Error::Unavailable { backend: NAME, reason };
    if !(1..=CpuBackend::MAX_THREADS).contains(&threads) {
        let reason = format!("{threads} threads, expected 1 to {}", CpuBackend::MAX_THREADS);
        return Err(unavailable(reason));
    }
    Pool::new(threads)
        .map_err(|error| unavailable(format!("cannot start {threads} threads: {error}")))
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> BackendLimits {
        LIMITS
    }

    fn memory(&self, program: &Program, config: &SessionConfig) -> Result<MemoryPlan> {
        memory::plan(program, config, self.threads(), self.level)
    }

    fn upload(&self, tensor: &TensorData) -> Result<Uploaded> {
        Ok(Arc::new(CpuWeight::new(&tensor.fetch()?, self.level)?))
    }

    fn upload_adapter(&self, adapter: &Adapter) -> Result<Uploaded> {
        Ok(Arc::new(CpuAdapter::new(adapter, self.level)?))
    }

    fn open_session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>> {
        let pool = Arc::clone(&self.pool);
        let session = CpuSession::new(pool, self.level, &program, &weights, &config)?;
        Ok(Box::new(session))
    }
}

#[cfg(all(test, not(target_family = "wasm")))] // no threads there
mod tests {
    use realm_gguf::TensorType;
    use realm_testkit::program::{Call, Decoder, Size};

    use super::*;

    /// Regions per layer of a small llama, for `n_rows` rows behind `n_past` others.
    fn regions_per_layer(n_past: usize, n_rows: usize) -> usize {
        let shape = Decoder {
            ty: TensorType::Q4_0,
            width: 512,
            ff_width: 1536,
            key_width: 64,
            value_width: 64,
            ..Decoder::default()
        };
        let (model, n_layers) = (shape.build(), shape.n_layers);
        let n_positions = n_past + n_rows;
        let page_tokens = 32;
        let n_pages = n_positions.div_ceil(page_tokens);
        let (max_rows, max_outputs) = (n_positions, n_positions);
        let size = Size { page_tokens, n_pages, max_rows, max_outputs, ..Size::default() };
        let backend =
            CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
        let mut session = model.open(&backend, size).unwrap();
        let pages: Vec<u32> = (0..n_pages as u32).collect();
        let tokens: Vec<u32> = (0..n_positions as u32).map(|i| i % 64).collect();
        let run = |session: &mut dyn Session, first: usize, n: usize| {
            let call = Call::one(&tokens[first..first + n], first as u32, &pages);
            call.run(session, 1..1 + n_layers).unwrap();
        };
        if n_past > 0 {
            run(&mut *session, 0, n_past);
        }
        let before = backend.pool.n_regions();
        run(&mut *session, n_past, n_rows);
        (backend.pool.n_regions() - before) / n_layers
    }

    #[test]
    fn threads_meet_at_most_five_times_per_layer_for_a_token_and_ten_for_a_prompt() {
        for n_past in [0, 40, 700] {
            let n = regions_per_layer(n_past, 1);
            assert!((4..=5).contains(&n), "{n} regions behind {n_past} positions");
        }
        let n = regions_per_layer(0, 256);
        assert!((5..=10).contains(&n), "{n} regions");
    }
}
