//! The backend: opening it, uploading to it, opening sessions on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use realm_gguf::{Origin, TensorData, TensorType};
use realm_ir::{
    Adapter, Backend, BackendLimits, Error, MemoryPlan, Program, ReadFuture, Result, Session,
    SessionConfig, Uploaded,
};

use crate::NAME;
use crate::device::{self, DeviceDescription};
use crate::gpu::{Counters, Gpu};
use crate::low_rank::LowRankAdapter;
use crate::memory_plan;
use crate::product::Tuning;
use crate::session::WgpuSession;
use crate::weight::{self, Weight};

/// How to open a [`WgpuBackend`].
#[derive(Clone, Debug, Default)]
pub struct WgpuOptions {
    /// Number of a device in the order of [`devices`], or part of its name, in any
    /// case. Default: the best device that is not software.
    pub device: Option<String>,
    /// Most bytes of one binding, to lower the device's own limit; weights above
    /// it are split by rows. Default: the device's limit.
    pub max_binding_bytes: Option<usize>,
    /// The kernels that matrix products prefer, as far as the device has them. Default: the
    /// fastest by a short benchmark; on devices in software those that run everywhere.
    pub tuning: Option<Tuning>,
}

/// Runs programs on a GPU through wgpu. Cheap to clone: clones share the device.
#[derive(Clone)]
pub struct WgpuBackend {
    device: Arc<Device>,
}

/// An open device and the weights on it.
struct Device {
    gpu: Arc<Gpu>,
    weights: SharedWeights,
}

impl WgpuBackend {
    /// Opens the device that `options` ask for.
    ///
    /// # Errors
    /// `Unavailable` when there is no such device, naming those that were found, or when it
    /// cannot be opened.
    pub async fn open(options: WgpuOptions) -> Result<Self> {
        let card = device::choose(options.device.as_deref()).await?;
        let gpu = Gpu::open(&card, options.max_binding_bytes, options.tuning).await?;
        let device = Device { gpu: Arc::new(gpu), weights: SharedWeights::default() };
        Ok(WgpuBackend { device: Arc::new(device) })
    }

    /// [`WgpuBackend::open`], blocking this thread.
    ///
    /// # Errors
    /// Those of [`WgpuBackend::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(options: WgpuOptions) -> Result<Self> {
        pollster::block_on(Self::open(options))
    }

    /// The backend that this process has open on a device, or a new one: models on one
    /// device share it, and each file's weights lie there once. `wanted` is what
    /// [`WgpuOptions::device`] is. Blocks this thread.
    ///
    /// # Errors
    /// Those of [`WgpuBackend::open`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn shared(wanted: Option<&str>) -> Result<Self> {
        static OPEN: Mutex<Vec<(DeviceDescription, Weak<Device>)>> = Mutex::new(Vec::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        // A device that failed stays with those who use it; others get a new one.
        open.retain(|(_, device)| {
            device.upgrade().is_some_and(|device| device.gpu.check().is_ok())
        });
        let card = pollster::block_on(device::choose(wanted))?;
        let description = DeviceDescription::of(&card);
        let device = open.iter().find(|(open, _)| *open == description);
        if let Some(device) = device.and_then(|(_, device)| device.upgrade()) {
            return Ok(WgpuBackend { device });
        }
        let gpu = Arc::new(pollster::block_on(Gpu::open(&card, None, None))?);
        let device = Arc::new(Device { gpu, weights: SharedWeights::default() });
        open.push((description, Arc::downgrade(&device)));
        Ok(WgpuBackend { device })
    }

    /// The device in use.
    pub fn device(&self) -> &DeviceDescription {
        &self.device.gpu.description
    }

    #[cfg(test)]
    pub(crate) fn shared_gpu(&self) -> Arc<Gpu> {
        Arc::clone(&self.device.gpu)
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        &self.device.gpu
    }

    /// What was uploaded and submitted so far.
    pub fn counters(&self) -> Counters {
        self.device.gpu.counters()
    }
}

/// Weights of files that are on a device, as long as a model uses them.
#[derive(Default)]
struct SharedWeights(Mutex<HashMap<WeightKey, Weak<Weight>>>);

/// What makes two weights one: the bytes and how they are read.
#[derive(PartialEq, Eq, Hash)]
struct WeightKey {
    origin: Origin,
    ty: TensorType,
    row_len: usize,
}

impl SharedWeights {
    /// Weights as they lie on the device already, all of them, or as `upload` brings them there.
    fn get(
        &self,
        tensors: &[&TensorData],
        upload: impl FnOnce() -> Result<Vec<Weight>>,
    ) -> Result<Vec<Arc<Weight>>> {
        let key = |tensor: &&TensorData| {
            let (ty, row_len) = (tensor.ty(), tensor.row_len());
            Some(WeightKey { origin: tensor.origin()?, ty, row_len })
        };
        let upload = || -> Result<Vec<_>> { Ok(upload()?.into_iter().map(Arc::new).collect()) };
        // Bytes in memory are nobody else's.
        let Some(keys) = tensors.iter().map(key).collect::<Option<Vec<_>>>() else {
            return upload();
        };
        // Held while uploading, so that models loading side by side do not both do it.
        let mut weights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = keys.iter().map(|key| weights.get(key).and_then(Weak::upgrade));
        if let Some(known) = known.collect() {
            return Ok(known);
        }
        let uploaded = upload()?;
        weights.retain(|_, weight| weight.strong_count() > 0);
        weights.extend(keys.into_iter().zip(uploaded.iter().map(Arc::downgrade)));
        Ok(uploaded)
    }
}

/// Every device of this machine, software included.
pub async fn devices() -> Vec<DeviceDescription> {
    device::enumerate().await.iter().map(DeviceDescription::of).collect()
}

/// [`devices`], blocking this thread.
#[cfg(not(target_arch = "wasm32"))]
pub fn devices_blocking() -> Vec<DeviceDescription> {
    pollster::block_on(devices())
}

/// What weights of a type are multiplied by; none where they cannot be.
pub fn kernel_name(ty: TensorType) -> Option<&'static str> {
    weight::format(ty).map(|format| format.ty.name())
}

impl Backend for WgpuBackend {
    fn name(&self) -> &'static str {
        NAME
    }

    fn limits(&self) -> BackendLimits {
        memory_plan::limits(&self.device.gpu)
    }

    fn memory(&self, program: &Program, config: &SessionConfig) -> Result<MemoryPlan> {
        memory_plan::plan(&self.device.gpu, program, config)
    }

    fn upload(&self, tensor: &TensorData) -> Result<Uploaded> {
        Ok(self.upload_together(&[tensor])?.remove(0))
    }

    fn upload_together(&self, tensors: &[&TensorData]) -> Result<Vec<Uploaded>> {
        let gpu = &self.device.gpu;
        let mut uploaded = vec![None; tensors.len()];
        for group in weight::side_by_side(gpu, tensors) {
            let members: Vec<_> = group.iter().map(|index| tensors[*index]).collect();
            let upload = || Weight::upload_together(gpu, &members);
            for (index, weight) in group.iter().zip(self.device.weights.get(&members, upload)?) {
                uploaded[*index] = Some(weight as Uploaded);
            }
        }
        Ok(uploaded.into_iter().flatten().collect())
    }

    fn upload_adapter(&self, adapter: &Adapter) -> Result<Uploaded> {
        Ok(Arc::new(LowRankAdapter::upload(&self.device.gpu, adapter)?))
    }

    fn settle(&self) -> ReadFuture<'_> {
        Box::pin(self.device.gpu.settle())
    }

    fn open_session(
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
        Ok(Box::new(WgpuSession::new(Arc::clone(&self.device.gpu), program, weights, config)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use realm_gguf::Gguf;
    use realm_testkit::gguf_writer::GgufWriter;
    use realm_testkit::program::{Call, Decoder, Size};

    fn any_device() -> String {
        let found = devices_blocking();
        found.first().expect("no graphics card found: install a driver").name.clone()
    }

    #[test]
    fn models_on_one_device_share_it_and_the_weights_of_a_file() {
        let mut writer = GgufWriter::new();
        writer.kv("general.architecture", "toy");
        writer.tensor_f32("a", &[32, 4], TensorType::F32, &[1.0; 128]);
        writer.tensor_f32("b", &[32, 4], TensorType::F32, &[2.0; 128]);
        let path = std::env::temp_dir().join(format!("realm-shared-{}.gguf", std::process::id()));
        std::fs::write(&path, writer.to_bytes()).unwrap();
        let tensor = |name: &str| Gguf::open(&path).unwrap().require_tensor(name).unwrap();

        let name = any_device();
        let one = WgpuBackend::shared(Some(&name)).unwrap();
        let other = WgpuBackend::shared(Some(&name)).unwrap();
        let a = one.upload(&tensor("a")).unwrap();
        assert!(Arc::ptr_eq(&a, &other.upload(&tensor("a")).unwrap()));
        assert!(!Arc::ptr_eq(&a, &other.upload(&tensor("b")).unwrap()));
        let half = tensor("a").rows(0..2).unwrap();
        assert!(!Arc::ptr_eq(&a, &other.upload(&half).unwrap()));

        let uploaded = one.counters().weight_bytes;
        drop(a);
        one.upload(&tensor("a")).unwrap();
        assert_eq!(one.counters().weight_bytes, uploaded + 512, "nobody used it any more");
        std::fs::remove_file(path).unwrap();

        one.device.gpu.device.destroy();
        // The system tells of the loss when it is asked next.
        let _ = one.device.gpu.device.poll(wgpu::PollType::wait_indefinitely());
        assert!(matches!(other.upload(&half), Err(Error::DeviceLost { .. })));
        let next = WgpuBackend::shared(Some(&name)).unwrap();
        next.device.gpu.check().expect("the next model gets a new device");
    }

    #[test]
    fn a_lost_device_is_an_error_of_every_later_call() {
        let options = WgpuOptions { device: Some(any_device()), ..Default::default() };
        let backend = WgpuBackend::new(options).unwrap();
        let model = Decoder::default().build();
        let mut session = model.open(&backend, Size::default()).unwrap();
        let call = Call::one(&[1, 2], 0, &[0]);
        call.logits(&model, &mut *session).unwrap();

        backend.device.gpu.device.destroy();
        // The first call may still go through; its result cannot be read.
        let lost = call.logits(&model, &mut *session).unwrap_err();
        assert!(matches!(lost, Error::DeviceLost { backend: NAME, .. }), "{lost}");
        let hidden = model.program.hidden;
        assert!(session.write(hidden, &[0.0; 256]).is_err());
        assert!(session.copy_page(0, 1).is_err());
        assert!(backend.upload(&model.program.weights[0]).is_err());
        assert!(model.open(&backend, Size::default()).is_err());
    }
}
