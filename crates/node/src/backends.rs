//! The backends of this addon.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend};

use crate::error::{Result, guard, invalid};
use crate::promise::promise;

/// Backends that exist, but not in this addon.
const ELSEWHERE: &[&str] = &["candle", "cuda", "wgpu"];

#[napi(object, object_from_js = false)]
pub struct BindingBackendInfo {
    pub name: String,
    pub available: bool,
    pub description: String,
    pub devices: Vec<String>,
}

/// What this machine offers.
#[napi]
pub fn backends(env: &Env) -> Result<Object<'_>> {
    guard(|| {
        let (reply, promise) = promise(env, |infos: Vec<BindingBackendInfo>| infos)?;
        reply.send(Ok(infos()));
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
    std::iter::once(cpu).chain(elsewhere).collect()
}

/// The backends to try for `backend`, then `fallback`, each once. `auto` means
/// the fastest of this addon.
pub(crate) fn choices(
    backend: String,
    fallback: Vec<String>,
    threads: usize,
) -> Result<Vec<BackendChoice>> {
    let mut names: Vec<String> = Vec::new();
    for name in std::iter::once(backend).chain(fallback) {
        let name = if name == "auto" { "cpu".to_owned() } else { name };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| choice(name, threads)).collect()
}

fn choice(name: String, threads: usize) -> Result<BackendChoice> {
    if name == "cpu" {
        return Ok(BackendChoice { name, open: Box::new(move || open_cpu(threads)) });
    }
    let Some(known) = ELSEWHERE.iter().copied().find(|known| *known == name) else {
        let known = ELSEWHERE.join(", ");
        return Err(invalid(format!("backend is \"{name}\", expected one of: auto, cpu, {known}")));
    };
    let refusal = move || {
        let reason = "it is not part of this package".to_owned();
        Err(realm_ir::Error::Unavailable { backend: known, reason }.into())
    };
    Ok(BackendChoice { name, open: Box::new(refusal) })
}

fn open_cpu(threads: usize) -> realm_engine::Result<OpenBackend> {
    let threads = (threads > 0).then_some(threads);
    let backend = CpuBackend::new(CpuOptions { threads })?;
    let threads = backend.threads();
    let kernel = |ty| realm_quant::format(ty).map(|format| format.kernel().name.to_owned());
    Ok(OpenBackend { backend: Arc::new(backend), threads, kernel })
}
