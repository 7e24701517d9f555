//! The backends of this build.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend};

#[cfg(not(target_feature = "atomics"))]
use realm_wgpu::{WgpuBackend, WgpuOptions};

/// The backends to try in this order, with what a page has against one. WebGPU is
/// opened now, since that has to be waited for.
pub(crate) async fn choices(wanted: Vec<(String, String)>, threads: usize) -> Vec<BackendChoice> {
    let mut choices = Vec::new();
    for (name, against) in wanted {
        choices.push(match against.is_empty() {
            true => choice(name, threads).await,
            false => BackendChoice { name, open: refusal("webgpu", against) },
        });
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
    Box::new(move || Err(realm_ir::Error::Unavailable { backend, reason: reason.clone() }.into()))
}

fn open_cpu(threads: usize) -> realm_engine::Result<OpenBackend> {
    let threads = (threads > 0).then_some(threads);
    let backend = CpuBackend::new(CpuOptions { threads })?;
    let threads = backend.threads();
    let kernel = |ty, layout| realm_cpu::kernel_name(ty, layout).map(str::to_owned);
    let device = realm_cpu::describe().name;
    Ok(OpenBackend { backend: Arc::new(backend), threads, device, kernel })
}

#[cfg(not(target_feature = "atomics"))]
async fn webgpu(name: String) -> BackendChoice {
    // A page has one adapter, and has decided about it.
    let any = WgpuOptions { adapter: Some("0".to_owned()), ..WgpuOptions::default() };
    let backend = WgpuBackend::open(any).await;
    let open: Open = match backend {
        Ok(backend) => Box::new(move || {
            let device = match backend.adapter().name.as_str() {
                "" => "an adapter without a name".to_owned(),
                name => name.to_owned(),
            };
            let kernel = |ty, _| realm_wgpu::kernel_name(ty).map(str::to_owned);
            let backend = Arc::new(backend.clone());
            Ok(OpenBackend { backend, threads: 0, device, kernel })
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
