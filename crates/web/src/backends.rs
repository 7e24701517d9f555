//! The backends of this build.

#[cfg(any(feature = "cpu", feature = "webgpu"))]
use std::sync::Arc;

use realm_engine::load::{BackendChoice, OpenBackend};
use realm_engine::{Error, ErrorCode};

/// The backends to try in this order, with what a page has against one. WebGPU is
/// opened now, since that has to be waited for.
pub(crate) async fn choices(wanted: Vec<(String, String)>, threads: usize) -> Vec<BackendChoice> {
    let mut choices = Vec::new();
    for (name, against) in wanted {
        let open = match against.is_empty() {
            true => open(&name, threads).await,
            false => refusal(against),
        };
        choices.push(BackendChoice { name, open });
    }
    choices
}

type Open = Box<dyn Fn() -> realm_engine::Result<OpenBackend> + Send>;

async fn open(name: &str, _threads: usize) -> Open {
    match name {
        #[cfg(feature = "cpu")]
        "cpu" => Box::new(move || open_cpu(_threads)),
        #[cfg(feature = "webgpu")]
        "webgpu" => webgpu().await,
        _ => refusal(format!("a browser has no backend \"{name}\"")),
    }
}

fn refusal(message: String) -> Open {
    Box::new(move || {
        Err(Error::Other { code: ErrorCode::BackendUnavailable, message: message.clone() })
    })
}

#[cfg(feature = "cpu")]
fn open_cpu(threads: usize) -> realm_engine::Result<OpenBackend> {
    use realm_cpu::{CpuBackend, CpuOptions};
    let threads = (threads > 0).then_some(threads);
    let backend = CpuBackend::shared(CpuOptions { threads, ..Default::default() })?;
    let threads = backend.threads();
    let kernel = |ty, layout| realm_cpu::kernel_name(ty, layout).map(str::to_owned);
    let device = realm_cpu::describe().name;
    Ok(OpenBackend { backend: Arc::new(backend), threads, device, kernel })
}

#[cfg(feature = "webgpu")]
async fn webgpu() -> Open {
    use realm_wgpu::{WgpuBackend, WgpuOptions};
    // A page has one device, and has decided about it.
    let any = WgpuOptions { device: Some("0".to_owned()), ..WgpuOptions::default() };
    match WgpuBackend::open(any).await {
        Ok(backend) => Box::new(move || {
            let device = match backend.device().name.as_str() {
                "" => "a device without a name".to_owned(),
                name => name.to_owned(),
            };
            let kernel = |ty, _| realm_wgpu::kernel_name(ty).map(str::to_owned);
            let backend = Arc::new(backend.clone());
            Ok(OpenBackend { backend, threads: 0, device, kernel })
        }),
        Err(error) => refusal(error.to_string()),
    }
}
