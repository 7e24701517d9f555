//! GGUF files, written tensor after tensor.
//!
//! The types of all tensors are known before the first byte is written, so the
//! header with every offset comes first and the data only passes through.
//!
//! Layout: `docs/gguf.md` in the ggml repository, version 3.

use realm_gguf::{Array, Metadata, TensorType, Value, ValueType};

use crate::Error;
use crate::output::Output;

/// Metadata to be written: entries of another file, some of them replaced.
pub(crate) struct Entries<'a> {
    metadata: &'a Metadata,
    /// Keys that are left out.
    without: &'a [&'a str],
    /// Values that take the place of others, or are put at the end.
    replaced: &'a [(&'a str, u32)],
}

impl<'a> Entries<'a> {
    pub(crate) fn new(
        metadata: &'a Metadata,
        without: &'a [&'a str],
        replaced: &'a [(&'a str, u32)],
    ) -> Self {
        Self { metadata, without, replaced }
    }

    /// All entries, encoded, and their number.
    fn encode(&self) -> (u64, Vec<u8>) {
        let mut out = Vec::new();
        let mut count = 0;
        let mut entry = |out: &mut Vec<u8>, key: &str, value: &Value| {
            count += 1;
            put_string(out, key.as_bytes());
            put_u32(out, value.value_type() as u32);
            put_value(out, value);
        };
        for (key, value) in self.metadata.iter() {
            if self.without.contains(&key) {
                continue;
            }
            let replaced = self.replaced.iter().find(|(replaced, _)| *replaced == key);
            match replaced {
                Some((_, number)) => entry(&mut out, key, &Value::U32(*number)),
                None => entry(&mut out, key, value),
            }
        }
        for (key, number) in self.replaced {
            if self.metadata.get(key).is_none() {
                entry(&mut out, key, &Value::U32(*number));
            }
        }
        (count, out)
    }
}

/// A tensor that will be written.
pub(crate) struct Tensor<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub ty: TensorType,
    pub n_bytes: u64,
}

/// A file that is being written.
pub(crate) struct Writer {
    output: Output,
    alignment: u64,
    written: u64,
}

impl Writer {
    /// Begins with the header.
    pub(crate) fn new(
        output: Output,
        alignment: u32,
        entries: &Entries<'_>,
        tensors: &[Tensor<'_>],
    ) -> Result<Self, Error> {
        let mut writer = Self { output, alignment: alignment.into(), written: 0 };
        let mut header = header(alignment.into(), entries, tensors);
        header.resize(header.len().next_multiple_of(alignment as usize), 0);
        writer.write(&header)?;
        Ok(writer)
    }

    /// Appends to the data of the current tensor.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the data of a tensor: the next one begins at a multiple of the alignment.
    pub(crate) fn end_tensor(&mut self) -> Result<(), Error> {
        let padding = self.written.next_multiple_of(self.alignment) - self.written;
        self.write(&vec![0; padding as usize])
    }

    /// Gives the file its name. Returns its size in bytes.
    pub(crate) fn finish(self) -> Result<u64, Error> {
        self.output.finish()?;
        Ok(self.written)
    }
}

/// All that precedes the data, without padding.
fn header(alignment: u64, entries: &Entries<'_>, tensors: &[Tensor<'_>]) -> Vec<u8> {
    let (n_entries, entries) = entries.encode();
    let mut out = b"GGUF".to_vec();
    put_u32(&mut out, 3);
    put_u64(&mut out, tensors.len() as u64);
    put_u64(&mut out, n_entries);
    out.extend(entries);
    let mut offset = 0u64;
    for tensor in tensors {
        put_string(&mut out, tensor.name.as_bytes());
        put_u32(&mut out, tensor.shape.len() as u32);
        for dim in tensor.shape {
            put_u64(&mut out, *dim as u64);
        }
        put_u32(&mut out, tensor.ty as u32);
        put_u64(&mut out, offset);
        offset = (offset + tensor.n_bytes).next_multiple_of(alignment);
    }
    out
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push((*v).into()),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::String(text) => put_string(out, text.bytes()),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let item_type: ValueType = array.item_type();
    put_u32(out, item_type as u32);
    put_u64(out, array.len() as u64);
    match array {
        Array::Scalars(items) => items.iter().for_each(|item| put_value(out, &item)),
        Array::Strings(items) => items.iter().for_each(|item| put_string(out, item)),
        Array::Arrays(items) => items.iter().for_each(|item| put_array(out, item)),
    }
}
