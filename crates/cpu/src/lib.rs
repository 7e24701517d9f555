//! The CPU backend: steps run by a pool of threads over quantised weights.
//!
//! Weights stay where the file has them. [`plan`] turns a program into
//! operations with their weights resolved, joining a norm or an activation with
//! the product that reads it, so that a dense layer has five points where the
//! threads meet. [`ops`] holds one file per operation.
//!
//! What a row of a batch gets does not depend on the other rows: every sum is
//! taken in an order that the row alone decides. Running a prompt at once, token
//! by token, or next to other sequences gives the same bits.

mod adapter;
mod backend;
#[cfg(not(target_family = "wasm"))]
mod bandwidth;
mod kv;
mod machine;
mod math;
mod memory;
mod ops;
mod packer;
mod parts;
mod plan;
mod pool;
mod session;
mod state;
mod states;
mod sync;
mod threads;
mod turns;
mod weight;
mod zeroed;

/// The backend's name in options, reports and errors.
pub(crate) const NAME: &str = "cpu";

pub use backend::{CpuBackend, CpuOptions};
#[cfg(not(target_family = "wasm"))]
pub use bandwidth::read_bandwidth;
pub use machine::{CpuInfo, describe, kernel_name};
pub use realm_quant::Level;
#[cfg(target_family = "wasm")]
pub use threads::lend_thread;
