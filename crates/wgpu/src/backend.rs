//! The backend: opening it, uploading to it, opening sessions on it.

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{Backend, Error, Program, Result, Session, SessionConfig, StepKind, Uploaded};

use crate::NAME;
use crate::adapter::{self, AdapterDescription};
use crate::gpu::{Counters, Gpu};
use crate::session::WgpuSession;
use crate::weight::{self, Weight};

/// How to open a [`WgpuBackend`].
#[derive(Clone, Debug, Default)]
pub struct WgpuOptions {
    /// Part of an adapter's name, in any case. Default: the best adapter that is
    /// not software.
    pub adapter: Option<String>,
    /// Most bytes of one binding, to lower the adapter's own limit; weights above
    /// it are split by rows. Default: the adapter's limit.
    pub max_binding_bytes: Option<usize>,
}

/// Runs programs on a GPU through wgpu. Cheap to clone: clones share the device.
#[derive(Clone)]
pub struct WgpuBackend {
    gpu: Arc<Gpu>,
    adapter: AdapterDescription,
}

impl WgpuBackend {
    /// Opens a device on the adapter that `options` ask for.
    ///
    /// # Errors
    /// `Unavailable` naming the adapters that were found.
    pub async fn open(options: WgpuOptions) -> Result<Self> {
        let adapter = adapter::choose(options.adapter.as_deref()).await?;
        let gpu = Arc::new(Gpu::open(&adapter, options.max_binding_bytes).await?);
        let adapter = AdapterDescription::of(&adapter);
        tracing::info!(name = adapter.name, api = adapter.api, "opened adapter");
        Ok(WgpuBackend { gpu, adapter })
    }

    /// [`WgpuBackend::open`], blocking this thread.
    ///
    /// # Errors
    /// As above.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(options: WgpuOptions) -> Result<Self> {
        pollster::block_on(Self::open(options))
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.adapter
    }

    /// What was uploaded and submitted so far.
    pub fn counters(&self) -> Counters {
        self.gpu.counters()
    }
}

/// Every adapter of this machine, software included.
pub async fn adapters() -> Vec<AdapterDescription> {
    adapter::enumerate().await.iter().map(AdapterDescription::of).collect()
}

impl Backend for WgpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports(&self, step: StepKind, ty: TensorType) -> bool {
        match step {
            StepKind::Embed | StepKind::Linear => weight::format(ty).is_some(),
            StepKind::Norm
            | StepKind::RopeStore
            | StepKind::Attend
            | StepKind::GatedAct
            | StepKind::Add
            | StepKind::TakeRows => ty == TensorType::F32,
            StepKind::Rope
            | StepKind::Moe
            | StepKind::HeadLinear
            | StepKind::Mix
            | StepKind::Sparsify
            | StepKind::Conv
            | StepKind::DeltaNet
            | StepKind::SelectiveScan => false,
        }
    }

    fn upload(&self, tensor: &TensorData) -> Result<Uploaded> {
        Ok(Arc::new(Weight::upload(&self.gpu, &tensor.fetch()?)?))
    }

    fn session(
        &self,
        program: Arc<Program>,
        weights: Arc<[Uploaded]>,
        config: SessionConfig,
    ) -> Result<Box<dyn Session>> {
        let weights = weights
            .iter()
            .map(|weight| {
                Arc::clone(weight).downcast().map_err(|_| Error::Unsupported {
                    what: "a weight that another backend uploaded".to_owned(),
                    backend: NAME,
                })
            })
            .collect::<Result<Vec<Arc<Weight>>>>()?;
        Ok(Box::new(WgpuSession::new(Arc::clone(&self.gpu), program, weights, config)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use realm_testkit::program::{Call, Decoder, Size};

    #[test]
    fn a_lost_device_is_an_error_of_every_later_call() {
        let found = pollster::block_on(adapters());
        let adapter = found.first().expect("no graphics adapter found: install a driver");
        let adapter = Some(adapter.name.clone());
        let backend = WgpuBackend::new(WgpuOptions { adapter, ..Default::default() }).unwrap();
        let model = Decoder::default().build();
        let mut session = model.open(&backend, Size::default()).unwrap();
        let call = Call::one(&[1, 2], 0, &[0]);
        call.logits(&model, &mut *session).unwrap();

        backend.gpu.device.destroy();
        // The first call may still go through; its result cannot be read.
        let lost = call.logits(&model, &mut *session).unwrap_err();
        assert!(matches!(lost, Error::Unavailable { backend: NAME, .. }), "{lost}");
        let hidden = model.program.hidden;
        assert!(session.write(hidden, &[0.0; 256]).is_err());
        assert!(session.copy_page(0, 1).is_err());
        assert!(backend.upload(&model.program.weights[0]).is_err());
        assert!(model.open(&backend, Size::default()).is_err());
    }
}
