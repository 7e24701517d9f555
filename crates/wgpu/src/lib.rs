//! WGSL executor of steps: Vulkan, Metal and DX12 natively, WebGPU in browsers.
//!
//! [`WgpuBackend::open`] chooses a device and opens it. Uploading a weight
//! repacks its blocks into aligned planes; opening a session makes every pipeline,
//! buffer and bind group that the program needs. After that a call to
//! [`realm_ir::Session::run`] uploads one small buffer with the batch and
//! submits once, however many segments it runs.
//!
//! Where things are: `device` chooses, `gpu` holds the device and its health,
//! `weight` repacks, `product` has the kernels of matrix products, `kernel` lists all others and
//! makes their pipelines, `sizes` and `memory` have a session's buffers, `plan` turns steps into dispatches, `low_rank` and
//! `additions` have LoRA adapters, `batch` packs what varies, `session` runs.
//!
//! What goes wrong on the device — lost, out of memory, a rejected command —
//! becomes a [`realm_ir::Error`] of the call that meets it, never a panic. After a
//! device error other than an allocation that failed, every call returns it: the
//! backend has to be opened again.
//!
//! Weights of every type that `realm_quant` knows are kept as their own integers and scales, in
//! planes (`weight`); nothing is expanded but vectors, and floats whose rows are not whole
//! groups of 32, which become F32. Which kernels products run is chosen when a device is
//! opened ([`Tuning`]), and each kernel has to know the answer of a small product before a
//! session runs it.

mod activation;
mod additions;
mod backend;
mod batch;
mod device;
mod gpu;
mod kernel;
mod low_rank;
mod memory;
mod memory_plan;
mod plan;
mod product;
mod rope;
mod session;
mod signal;
mod sizes;
mod top;
mod weight;

#[cfg(not(target_arch = "wasm32"))]
pub use backend::devices_blocking;
pub use backend::{WgpuBackend, WgpuOptions, devices, kernel_name};
pub use device::DeviceDescription;
pub use gpu::Counters;
pub use product::check::check_products;
pub use product::{Arithmetic, Tuning};

/// The backend's name in options, reports and errors.
pub(crate) const NAME: &str = "webgpu";
