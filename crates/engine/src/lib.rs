//! Loading, requests, paged KV cache, scheduler, runner and sampler.
//!
//! [`load`] turns an opened file into a session on the first backend that can run it.
//! [`engine`] runs [`requests`] over that session, without threads, so that it serves a browser
//! as well. [`model`] is what programs hold: commands go to a loop that has a thread of its own,
//! or a task of an event loop. `docs/engine.md` draws the whole.

mod adapter;
mod budget;
pub mod chat;
mod code;
pub mod engine;
mod error;
mod info;
mod kv;
mod kv_plan;
pub mod load;
mod loaded;
pub mod log;
pub mod model;
mod options;
mod pairs;
mod prompt;
pub mod requests;
mod runner;
mod sampler;
mod scheduler;
mod settle;
mod stop;
mod tensor;

pub use adapter::{AdapterLoader, Lora};
pub use code::ErrorCode;
pub use error::{Error, Result};
pub use info::{MemoryEstimate, ModelInfo};
pub use options::{GenerateOptions, LoadOptions, Prompt};
pub use prompt::Prepared;
pub use realm_ir::Coded;
pub use realm_model::{AdapterInfo, Pooling};
pub use runner::OpenSession;
pub use sampler::SamplingOptions;
pub use stop::StopStrings;
pub use tensor::{Tensor, read_tensor};
