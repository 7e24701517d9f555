//! The backends of this build.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend};

#[cfg(not(target_feature = "atomics"))]
use realm_wgpu::{WgpuBackend, WgpuOptions};

/// The backends to try, each once, in this order. A page that may use WebGPU has it
/// opened now, since that has to be waited for.
pub(crate) async fn choices(names: Vec<String>, threads: usize) -> Vec<BackendChoice> {
    let mut choices: Vec<BackendChoice> = Vec::new();
    for name in names {
        if choices.iter().all(|choice| choice.name != name) {
            choices.push(choice(name, threads).await);
        }
    }
    choices
}

async fn choice(name: String, threads: usize) -> BackendChoice {
    match name.as_str() {
        "cpu" => BackendChoice { name, open: Box::new(move || open_cpu(threads)) },
        "webgpu" => webgpu(name).await,
        _ => {
            let reason = format!("a browser has no backend \"{name}\"");
            BackendChoice { name, open: refusal("web", reason) }
        }
    }
}

type Open = Box<dyn Fn() -> realm_engine::Result<OpenBackend> + Send>;

fn refusal(backend: &'static str, reason: String) -> Open {
    Box::new(move || {
        Err(realm_ir::Error::Unavailable { backend, reason: reason.clone() }.into())
    })
}

fn open_cpu(threads: usize) -> realm_engine::Result<OpenBackend> {
    let threads = (threads > 0).then_some(threads);
    let backend = CpuBackend::new(CpuOptions { threads })?;
    let threads = backend.threads();
    let kernel = |ty| realm_quant::format(ty).map(|format| format.kernel().name.to_owned());
    Ok(OpenBackend { backend: Arc::new(backend), threads, kernel })
}

#[cfg(not(target_feature = "atomics"))]
async fn webgpu(name: String) -> BackendChoice {
    let backend = WgpuBackend::open(WgpuOptions::default()).await;
    let open: Open = match backend {
        Ok(backend) => Box::new(move || {
            let backend = Arc::new(backend.clone());
            Ok(OpenBackend { backend, threads: 1, kernel: |_| Some("wgsl".to_owned()) })
        }),
        Err(realm_ir::Error::Unavailable { reason, .. }) => refusal("webgpu", reason),
        Err(error) => refusal("webgpu", error.to_string()),
    };
    BackendChoice { name, open }
}

#[cfg(target_feature = "atomics")]
async fn webgpu(name: String) -> BackendChoice {
    let reason = "it is not part of the build with threads".to_owned();
    BackendChoice { name, open: refusal("webgpu", reason) }
}
