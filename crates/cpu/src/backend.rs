//! The backend: a pool of threads, and sessions that take turns on it.

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Adapter, Backend, Error, Program, Result, Session, SessionConfig, StepKind, Uploaded,
};

use crate::adapter::CpuAdapter;
use crate::machine;
use crate::pool::Pool;
use crate::session::CpuSession;
use crate::weight::CpuWeight;

pub(crate) const NAME: &str = "cpu";

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
