//! Parsing one file up to its tensor data.
//!
//! Layout, little-endian: magic `GGUF`, version (u32), tensor count (u64),
//! metadata count (u64), metadata entries, tensor entries, padding to the
//! alignment, tensor data. Source: `docs/gguf.md` in the ggml repository.

use crate::TensorType;
use crate::error::{Error, Result, shown};
use crate::metadata::{self, Metadata};
use crate::part::File;
use crate::reader::{MAX_HEADER_BYTES, Reader};
use crate::remote;
use crate::tensor::{MAX_DIMS, TensorInfo};
use crate::view::View;

const MAGIC: &[u8; 4] = b"GGUF";

/// Where `general.alignment` is absent.
const DEFAULT_ALIGNMENT: u32 = 32;

/// Smallest entry: name length (8), one byte of name, dimension count (4), one
/// dimension (8), type (4), offset (8).
const MIN_TENSOR_ENTRY_BYTES: usize = 33;

/// Enough for the header of a model with a small vocabulary. When it is too little, at
/// least twice as much is read, and the beginning is parsed again.
const FIRST_HEAD_BYTES: u64 = 2 << 20;

/// What one file says about itself.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) alignment: u32,
    pub(crate) metadata: Metadata,
    /// Bytes before the tensor data, without padding.
    pub(crate) n_bytes: u64,
    /// In file order; data checked to lie inside the file.
    pub(crate) tensors: Vec<TensorInfo>,
}

impl Header {
    /// Reads as much of the beginning of `file` as the header turns out to take.
    pub(crate) fn read(file: &File) -> Result<Header> {
        let n_bytes = file.n_bytes();
        let file = match file {
            File::Held(view) => return Header::parse(view, n_bytes).map_err(|failed| failed.error),
            File::Remote(file) => file,
        };
        let limit = n_bytes.min(MAX_HEADER_BYTES as u64);
        let mut wanted = limit.min(FIRST_HEAD_BYTES);
        loop {
            let head = View::new(remote::read(&**file, 0, wanted as usize, "file header")?);
            match Header::parse(&head, n_bytes) {
                Ok(header) => return Ok(header),
                Err(failed) => match failed.needs.filter(|needs| *needs <= limit) {
                    Some(needs) => wanted = (needs + FIRST_HEAD_BYTES).max(2 * wanted).min(limit),
                    None => return Err(failed.error),
                },
            }
        }
    }

    /// Parses the header of a file of `file_bytes` bytes, of which `head` is all or the
    /// beginning.
    pub(crate) fn parse(head: &View, file_bytes: u64) -> std::result::Result<Header, Failed> {
        let mut reader = Reader::new(head, file_bytes);
        let header = read(&mut reader, file_bytes);
        header.map_err(|error| Failed { error, needs: reader.needs })
    }
}

/// Why a header could not be parsed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Box<Error>,
    /// With this many bytes of the file it might have been.
    pub(crate) needs: Option<u64>,
}

fn read(reader: &mut Reader<'_>, file_bytes: u64) -> Result<Header> {
    let version = read_version(reader)?;
    let n_tensors = reader.count(MIN_TENSOR_ENTRY_BYTES, "tensor count")?;
    let n_entries = reader.count(metadata::MIN_ENTRY_BYTES, "metadata count")?;
    let metadata = Metadata::read(reader, n_entries)?;
    let alignment = alignment(&metadata)?;
    let mut tensors =
        (0..n_tensors).map(|_| read_tensor(reader, alignment)).collect::<Result<Vec<_>>>()?;
    let n_bytes = reader.position() as u64;
    let data_start = n_bytes.next_multiple_of(alignment.into());
    place(&mut tensors, data_start, file_bytes)?;
    Ok(Header { version, alignment, metadata, n_bytes, tensors })
}

fn read_version(reader: &mut Reader<'_>) -> Result<u32> {
    let magic: [u8; 4] = reader.array("file header")?;
    if magic != *MAGIC {
        return Err(Error::invalid(
            "file header",
            format!("the bytes {magic:02x?} (\"{}\")", shown(&magic)),
            "the magic \"GGUF\"",
        ));
    }
    let version = reader.u32("file header")?;
    let found = match version {
        2 | 3 => return Ok(version),
        // A version in the upper half is one written in the other byte order.
        v if v != 0 && v & 0xffff == 0 => "a big-endian file".into(),
        v => format!("GGUF version {v}"),
    };
    let supported = "use a little-endian GGUF file of version 2 or 3";
    Err(Error::unsupported("file header", found, supported))
}

fn alignment(metadata: &Metadata) -> Result<u32> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.u32(KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment < 8 {
        return Err(Error::invalid(KEY, alignment.to_string(), "a power of two, at least 8"));
    }
    Ok(alignment)
}

/// Reads one tensor entry; its offset still counts from the start of the data.
fn read_tensor(reader: &mut Reader<'_>, alignment: u32) -> Result<TensorInfo> {
    let name = reader.name("tensor name")?;
    let label = shown(name.as_bytes());
    let n_dims = reader.u32(&label)? as usize;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(Error::invalid(
            label,
            format!("{n_dims} dimensions"),
            format!("1 to {MAX_DIMS} dimensions"),
        ));
    }
    let mut dims = [0; MAX_DIMS];
    for dim in &mut dims[..n_dims] {
        *dim = reader.u64(&label)?;
    }
    let ty = tensor_type(reader.u32(&label)?, &label)?;
    let offset = reader.u64(&label)?;
    if !offset.is_multiple_of(alignment.into()) {
        return Err(Error::invalid(
            label,
            format!("data offset {offset}"),
            format!("a multiple of the alignment {alignment}"),
        ));
    }
    TensorInfo::new(name, &dims[..n_dims], ty, offset)
}

fn tensor_type(id: u32, label: &str) -> Result<TensorType> {
    TensorType::from_id(id).ok_or_else(|| {
        let found = match TensorType::removed_name(id) {
            Some(name) => format!("tensor type id {id} ({name}, removed from GGUF)"),
            None => format!("tensor type id {id}"),
        };
        let supported =
            "convert the model again with a current type such as Q4_0, Q4_K, Q8_0 or F16";
        Error::unsupported(label, found, supported)
    })
}

/// Turns offsets into places in the file, and checks that the data lies inside
/// it and that no two tensors share bytes.
fn place(tensors: &mut [TensorInfo], data_start: u64, file_bytes: u64) -> Result<()> {
    for tensor in tensors.iter_mut() {
        let offset = tensor.offset();
        let end = tensor.shift(data_start).and_then(|()| tensor.end());
        if end.is_none_or(|end| end > file_bytes) {
            return Err(Error::invalid(
                shown(tensor.name().as_bytes()),
                format!(
                    "{} bytes at offset {offset} of the data, which starts at byte {data_start} \
                     of a file of {file_bytes} bytes",
                    tensor.n_bytes(),
                ),
                "data inside the file (is it complete?)",
            ));
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| tensor.offset());
    for pair in by_offset.windows(2) {
        if pair[0].end().is_some_and(|end| end > pair[1].offset()) {
            return Err(Error::invalid(
                shown(pair[1].name().as_bytes()),
                format!("data that shares bytes with {}", shown(pair[0].name().as_bytes())),
                "data of its own",
            ));
        }
    }
    Ok(())
}
