//! The backend: a pool of threads, and sessions that take turns on it.

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Adapter, Backend, BackendLimits, Error, KvType, MemoryPlan, Program, Result, Session,
    SessionConfig, StepKind, Uploaded,
};

use crate::adapter::CpuAdapter;
use crate::machine;
use crate::memory;
use crate::pool::Pool;
use crate::session::CpuSession;
use crate::weight::CpuWeight;

pub(crate) const NAME: &str = "cpu";

/// A batch of 256 rows keeps matrix products busy and takes few enough milliseconds for others
/// to wait; attention reads a page of 32 positions in one go, and a sequence wastes half a page
/// on average.
const LIMITS: BackendLimits = BackendLimits {
    batch_rows: 256,
    output_rows: 32,
    prompt_rows_beside_decoding: 64,
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
}

/// Runs steps on the CPU. Sessions of one backend share its threads.
pub struct CpuBackend {
    pool: Arc<Pool>,
}

impl CpuBackend {
    /// Most threads that can be asked for.
    pub const MAX_THREADS: usize = 256;

    /// Starts the threads.
    ///
    /// # Errors
    /// `Unavailable` when the operating system refuses a thread or `threads` is
    /// not in `1..=MAX_THREADS`.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let unavailable = |reason: String| Error::Unavailable { backend: NAME, reason };
        let threads = options.threads.unwrap_or_else(machine::default_threads);
        if !(1..=Self::MAX_THREADS).contains(&threads) {
            let reason = format!("{threads} threads, expected 1 to {}", Self::MAX_THREADS);
            return Err(unavailable(reason));
        }
        let pool = Pool::new(threads)
            .map_err(|error| unavailable(format!("cannot start {threads} threads: {error}")))?;
        Ok(CpuBackend { pool: Arc::new(pool) })
    }

    /// Threads in use, the calling one included.
    pub fn threads(&self) -> usize {
        self.pool.n_workers()
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports(&self, _step: StepKind, ty: TensorType) -> bool {
        realm_quant::format(ty).is_some()
    }

    fn limits(&self) -> BackendLimits {
        LIMITS
    }

    fn memory(&self, program: &Program, config: &SessionConfig) -> Result<MemoryPlan> {
        memory::plan(program, config, self.threads())
    }

    fn upload(&self, tensor: &TensorData) -> Result<Uploaded> {
        Ok(Arc::new(CpuWeight::new(&tensor.fetch()?)?))
    }

    fn upload_adapter(&self, adapter: &Adapter) -> Result<Uploaded> {
        Ok(Arc::new(CpuAdapter::new(adapter)?))
    }

    fn session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>> {
        let session = CpuSession::new(Arc::clone(&self.pool), &program, weights, &config)?;
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
        let backend = CpuBackend::new(CpuOptions { threads: Some(2) }).unwrap();
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
