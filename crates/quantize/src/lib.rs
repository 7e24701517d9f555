//! Quantisation: values to blocks, and model files to smaller ones.
//!
//! [`quantize_rows`] turns rows of values into blocks of a tensor type, the other
//! way round from [`realm_quant::dequantize`]. [`quantize`] does so for a whole
//! GGUF file, with the types that a [`Mix`] gives to its tensors, and with an
//! [`Imatrix`] if there is one.
//!
//! Blocks are those with the least squared error that a search finds, weighted by
//! the importance of the columns. That is the error of the product with inputs
//! whose squares have these means and which are independent of one another.

mod blocks;
mod error;
mod imatrix;
mod mix;
mod output;
mod run;
mod same_file;
mod writer;

pub use blocks::{quantize_rows, value_range, writable};
pub use error::{Error, ErrorCode};
pub use imatrix::Imatrix;
pub use mix::Mix;
pub use run::{Progress, QuantizeOptions, Report, TensorReport, plan, quantize};
