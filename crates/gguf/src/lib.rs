//! The GGUF container: parse, map or hold bytes, tensor views, split files.
//!
//! [`Gguf::open`] maps a file, [`Gguf::from_bytes`] holds one in memory; both give
//! the same [`Metadata`] and [`TensorData`]. Versions 2 and 3, little-endian.
//!
//! The file is never trusted: every count is checked against the bytes that are
//! left before anything is allocated or repeated, every sum and product is
//! checked, and what does not fit is an [`Error`] that names the key or tensor,
//! what was found and what was expected. No bytes make this crate panic. All that
//! precedes the tensor data may take 256 MiB at most, and parsing it takes at most
//! some 20 times its size in memory (a few per cent of it for real models).
//!
//! [`Gguf::from_remote`] reads the header of a file that is neither, and each tensor
//! when it is fetched: for browsers, whose memory does not hold a model.
//!
//! Nothing else is copied: vocabularies, arrays and tensor data stay views into the
//! mapping or the bytes, and keep it alive.
//!
//! # What mapping means
//!
//! A mapped file is shared with whoever else maps it and is read as it is needed.
//! The price: bytes changed under a running program are seen by it, and a file
//! that is *shortened* while mapped ends the process (SIGBUS on Unix) when the
//! missing part is read. Replace a model by renaming a new file over it, never
//! by writing into it. Where that cannot be promised, read the file and use
//! [`Gguf::from_bytes`].
//!
//! Format: `docs/gguf.md` in the ggml repository; split files: `gguf-split` in
//! llama.cpp.

mod error;
mod file;
mod header;
mod metadata;
mod part;
mod reader;
mod remote;
mod split;
mod tensor;
mod tensor_type;
mod value;
mod view;

pub use error::{Error, Result, cut};
pub use file::Gguf;
pub use metadata::{Metadata, U32OrArray};
pub use remote::ReadAt;
pub use tensor::{TensorData, TensorInfo};
pub use tensor_type::TensorType;
pub use value::{Array, ScalarArray, StringArray, Text, Value, ValueType};
pub use view::{FileId, Origin};
