//! Loading, sequences, paged KV cache, scheduler and sampler.
//!
//! [`load`] turns an opened file into a session on the first backend that can
//! run it. [`core`] runs generations and single layers over that session, without
//! threads, so that it serves a browser as well. [`model`] is what programs hold:
//! commands go to an engine that has a thread of its own, or a task of an event loop.

mod adapter;
mod budget;
pub mod chat;
pub mod core;
mod error;
mod info;
mod kv;
pub mod load;
pub mod model;
mod options;
mod sampler;
mod settle;
mod stop;
mod tensor;

pub use adapter::{AdapterLoader, Lora};
pub use error::{Error, Result};
pub use info::{MemoryEstimate, ModelInfo};
pub use options::{GenerateOptions, LoadOptions, Prompt};
pub use realm_ir::{Coded, ErrorCode};
pub use realm_model::{AdapterInfo, Pooling};
pub use sampler::SamplingOptions;
pub use tensor::{Tensor, read_tensor};
