//! The backends of this addon.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend};
use realm_ir::Error;
use realm_wgpu::{DeviceDescription, WgpuBackend};

use crate::error::{Result, guard, invalid};
use crate::promise::promise;

/// Backends that exist, but not in this addon.
const ELSEWHERE: &[&str] = &["candle", "cuda"];

#[napi(object, object_from_js = false)]
pub struct BindingBackendInfo {
    pub name: String,
    pub available: bool,
    pub description: String,
    pub devices: Vec<String>,
}

/// What this machine offers. Asked on a thread of its own: drivers can be slow to answer.
#[napi]
pub fn backends(env: &Env) -> Result<Object<'_>> {
    guard(|| {
        let (reply, promise) = promise(env, |infos: Vec<BindingBackendInfo>| infos)?;
        let work = move || reply.send(Ok(infos()));
        // A thread that cannot be started drops the reply, which answers.
        drop(std::thread::Builder::new().name("realm-probe".into()).spawn(work));
        Ok(promise)
    })
}

fn infos() -> Vec<BindingBackendInfo> {
    let cpu = realm_cpu::describe();
    let cpu = BindingBackendInfo {
        name: "cpu".into(),
        available: true,
        description: format!("{} kernels, {} threads by default", cpu.kernels, cpu.default_threads),
        devices: vec![cpu.name],
    };
    let elsewhere = ELSEWHERE.iter().map(|name| BindingBackendInfo {
        name: (*name).into(),
        available: false,
        description: "not part of this package".into(),
        devices: Vec::new(),
    });
    [cpu, webgpu_info()].into_iter().chain(elsewhere).collect()
}

fn webgpu_info() -> BindingBackendInfo {
    // A driver that panics has no devices to offer.
    let devices = std::panic::catch_unwind(realm_wgpu::devices_blocking).unwrap_or_default();
    let usable = devices.iter().find(|device| !device.software);
    BindingBackendInfo {
        name: "webgpu".into(),
        available: usable.is_some(),
        description: match (usable, devices.is_empty()) {
            (Some(device), _) => format!("{} through {}", device.name, device.api),
            (None, true) => "no graphics card found; is a driver installed?".into(),
            (None, false) => "only devices in software, which run when `device` names one".into(),
        },
        devices: devices.iter().map(device_name).collect(),
    }
}

fn device_name(device: &DeviceDescription) -> String {
    let kind = if device.software { ", in software" } else { "" };
    format!("{} ({}{kind})", device.name, device.api)
}

/// The backends to try for `backend`, then `fallback`, each once. `device` is the number
/// of a device or part of its name, or empty. `auto` means a discrete graphics card where
/// there is one, then the CPU.
pub(crate) fn choices(
    backend: String,
    fallback: Vec<String>,
    device: &str,
    threads: usize,
) -> Result<Vec<BackendChoice>> {
    let mut choices: Vec<BackendChoice> = Vec::new();
    for name in std::iter::once(backend).chain(fallback) {
        let names = match &*name {
            "auto" if !device.is_empty() => vec!["webgpu", "cpu"],
            "auto" if may_have_graphics_card() => vec!["auto", "cpu"],
            "auto" => vec!["cpu"],
            other => vec![other],
        };
        for name in names {
            let choice = choice(name, device, threads)?;
            if !choices.iter().any(|known| known.name == choice.name) {
                choices.push(choice);
            }
        }
    }
    Ok(choices)
}

fn choice(name: &str, device: &str, threads: usize) -> Result<BackendChoice> {
    let (name, open): (_, Box<dyn Fn() -> realm_engine::Result<OpenBackend> + Send>) = match name {
        "cpu" => ("cpu", Box::new(move || open_cpu(threads))),
        "webgpu" => {
            let device = Some(device.to_owned()).filter(|device| !device.is_empty());
            ("webgpu", Box::new(move || open_webgpu(device.as_deref())))
        }
        "auto" => ("webgpu", Box::new(open_graphics_card)),
        other => match ELSEWHERE.iter().copied().find(|known| *known == other) {
            Some(known) => (known, Box::new(move || Err(unavailable(known)))),
            None => {
                let known = ELSEWHERE.join(", ");
                return Err(invalid(format!(
                    "backend is \"{other}\", expected one of: auto, cpu, webgpu, {known}"
                )));
            }
        },
    };
    Ok(BackendChoice { name: name.to_owned(), open })
}

fn unavailable(backend: &'static str) -> realm_engine::Error {
    Error::Unavailable { backend, reason: "it is not part of this package".to_owned() }.into()
}

fn open_cpu(threads: usize) -> realm_engine::Result<OpenBackend> {
    let threads = (threads > 0).then_some(threads);
    let backend = CpuBackend::shared(CpuOptions { threads, ..Default::default() })?;
    let threads = backend.threads();
    let kernel = |ty, layout| realm_cpu::kernel_name(ty, layout).map(str::to_owned);
    let device = realm_cpu::describe().name;
    Ok(OpenBackend { backend: Arc::new(backend), threads, device, kernel })
}

fn open_webgpu(device: Option<&str>) -> realm_engine::Result<OpenBackend> {
    let backend = WgpuBackend::shared(device)?;
    let device = device_name(backend.device());
    let kernel = |ty, _| realm_wgpu::kernel_name(ty).map(str::to_owned);
    Ok(OpenBackend { backend: Arc::new(backend), threads: 0, device, kernel })
}

/// The graphics card, if there is one: other devices share the CPU's memory, and are not
/// known to be faster.
fn open_graphics_card() -> realm_engine::Result<OpenBackend> {
    let devices = realm_wgpu::devices_blocking();
    match devices.iter().position(|device| device.discrete) {
        Some(number) => open_webgpu(Some(&number.to_string())),
        None => {
            let reason = "no discrete graphics card found".to_owned();
            Err(Error::Unavailable { backend: "webgpu", reason }.into())
        }
    }
}

/// False where a look at the system's devices shows that there is none, which saves asking
/// the drivers.
fn may_have_graphics_card() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let has_render_node = || {
        let entries = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name())
            .any(|name| name.to_str().is_some_and(|name| name.starts_with("renderD")))
    };
    ["/dev/nvidia0", "/dev/dxg"].iter().any(|path| std::path::Path::new(path).exists())
        || has_render_node()
}
