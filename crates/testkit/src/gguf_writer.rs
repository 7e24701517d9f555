//! Writes GGUF files in memory, for tests.
//!
//! Test code: a shape that does not fit its data panics. To make a broken file,
//! write a right one and change its bytes.

use half::{bf16, f16};
use realm_gguf::{TensorType, ValueType};

/// Collects metadata and tensors, then encodes them.
///
/// ```
/// use realm_testkit::gguf_writer::GgufWriter;
/// let bytes = GgufWriter::new()
///     .kv("general.architecture", "llama")
///     .kv("llama.block_count", 1u32)
///     .tensor_f32("output_norm.weight", &[4], realm_gguf::TensorType::F32, &[1.0; 4])
///     .to_bytes();
/// assert!(realm_gguf::Gguf::from_bytes(bytes).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct GgufWriter {
    version: u32,
    alignment: u32,
    entries: Vec<(String, KvValue)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    ty: TensorType,
    bytes: Vec<u8>,
}

/// A metadata value, already encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct KvValue {
    ty: ValueType,
    bytes: Vec<u8>,
}

impl KvValue {
    /// A string that need not be UTF-8.
    pub fn string(text: &[u8]) -> Self {
        KvValue { ty: ValueType::String, bytes: encoded_string(text) }
    }

    /// An array of `items`, all of type `item_type` (named for the sake of empty arrays).
    pub fn array(item_type: ValueType, items: &[KvValue]) -> Self {
        let mut bytes = (item_type as u32).to_le_bytes().to_vec();
        bytes.extend((items.len() as u64).to_le_bytes());
        for item in items {
            assert_eq!(item.ty, item_type, "items of an array share one type");
            bytes.extend(&item.bytes);
        }
        KvValue { ty: ValueType::Array, bytes }
    }
}

macro_rules! kv_value_from_number {
    ($($number:ty => $variant:ident),*) => {$(
        impl From<$number> for KvValue {
            fn from(value: $number) -> Self {
                KvValue { ty: ValueType::$variant, bytes: value.to_le_bytes().to_vec() }
            }
        }
        impl From<&[$number]> for KvValue {
            fn from(values: &[$number]) -> Self {
                let items: Vec<KvValue> = values.iter().map(|value| (*value).into()).collect();
                KvValue::array(ValueType::$variant, &items)
            }
        }
    )*};
}

kv_value_from_number!(
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32,
    f32 => F32, u64 => U64, i64 => I64, f64 => F64
);

impl From<bool> for KvValue {
    fn from(value: bool) -> Self {
        KvValue { ty: ValueType::Bool, bytes: vec![value.into()] }
    }
}

impl From<&[bool]> for KvValue {
    fn from(values: &[bool]) -> Self {
        let items: Vec<KvValue> = values.iter().map(|value| (*value).into()).collect();
        KvValue::array(ValueType::Bool, &items)
    }
}

impl From<&str> for KvValue {
    fn from(text: &str) -> Self {
        KvValue::string(text.as_bytes())
    }
}

impl From<&[&str]> for KvValue {
    fn from(texts: &[&str]) -> Self {
        let items: Vec<KvValue> = texts.iter().map(|text| (*text).into()).collect();
        KvValue::array(ValueType::String, &items)
    }
}

impl From<&[String]> for KvValue {
    fn from(texts: &[String]) -> Self {
        let items: Vec<KvValue> = texts.iter().map(|text| text.as_str().into()).collect();
        KvValue::array(ValueType::String, &items)
    }
}

impl<T> From<Vec<T>> for KvValue
where
    for<'a> &'a [T]: Into<KvValue>,
{
    fn from(items: Vec<T>) -> Self {
        items.as_slice().into()
    }
}

impl<T, const N: usize> From<[T; N]> for KvValue
where
    for<'a> &'a [T]: Into<KvValue>,
{
    fn from(items: [T; N]) -> Self {
        items.as_slice().into()
    }
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// An empty file of version 3 with an alignment of 32.
    pub fn new() -> Self {
        GgufWriter { version: 3, alignment: 32, entries: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the version, 2 or 3 (both are laid out alike).
    pub fn version(&mut self, version: u32) -> &mut Self {
        self.version = version;
        self
    }

    /// Sets the alignment of tensor data and writes it as `general.alignment`.
    pub fn alignment(&mut self, alignment: u32) -> &mut Self {
        self.alignment = alignment;
        self.kv("general.alignment", alignment)
    }

    /// Adds a metadata entry. A key given before is written again: GGUF forbids
    /// that, so tests of readers can.
    pub fn kv(&mut self, key: &str, value: impl Into<KvValue>) -> &mut Self {
        self.entries.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor of the given bytes; `shape[0]` is the contiguous dimension.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        ty: TensorType,
        bytes: Vec<u8>,
    ) -> &mut Self {
        let values: usize = shape.iter().product();
        assert_eq!(
            bytes.len(),
            values / ty.block_len() * ty.block_bytes(),
            "{name}: bytes of a {ty} tensor of shape {shape:?}"
        );
        self.tensors.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), ty, bytes });
        self
    }

    /// Adds a tensor of type F32, F16 or BF16 from f32 values (rounded to nearest).
    pub fn tensor_f32(
        &mut self,
        name: &str,
        shape: &[usize],
        ty: TensorType,
        values: &[f32],
    ) -> &mut Self {
        let bytes = match ty {
            TensorType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            TensorType::F16 => {
                values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
            }
            TensorType::BF16 => {
                values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()
            }
            _ => panic!("{name}: {ty} cannot be made from f32 here; encode it and call tensor"),
        };
        self.tensor(name, shape, ty, bytes)
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode(&self.entries, &self.tensors)
    }

    /// The model split into `n` files: tensors in order, the metadata in the first,
    /// `split.no`, `split.count` and `split.tensors.count` in each.
    pub fn to_split_bytes(&self, n: u16) -> Vec<Vec<u8>> {
        let n_tensors = i32::try_from(self.tensors.len()).expect("fewer than 2^31 tensors");
        let bounds: Vec<usize> =
            (0..=usize::from(n)).map(|i| i * self.tensors.len() / usize::from(n)).collect();
        (0..n)
            .map(|no| {
                let mut entries = vec![
                    ("split.no".to_owned(), no.into()),
                    ("split.count".to_owned(), n.into()),
                    ("split.tensors.count".to_owned(), n_tensors.into()),
                ];
                let alignment = ("general.alignment".to_owned(), self.alignment.into());
                if no == 0 {
                    entries.extend(self.entries.iter().cloned());
                } else if self.entries.contains(&alignment) {
                    entries.push(alignment);
                }
                let i = usize::from(no);
                self.encode(&entries, &self.tensors[bounds[i]..bounds[i + 1]])
            })
            .collect()
    }

    fn encode(&self, entries: &[(String, KvValue)], tensors: &[Tensor]) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((tensors.len() as u64).to_le_bytes());
        out.extend((entries.len() as u64).to_le_bytes());
        for (key, value) in entries {
            out.extend(encoded_string(key.as_bytes()));
            out.extend((value.ty as u32).to_le_bytes());
            out.extend(&value.bytes);
        }
        let mut data = Vec::new();
        for tensor in tensors {
            out.extend(encoded_string(tensor.name.as_bytes()));
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for dim in &tensor.shape {
                out.extend((*dim as u64).to_le_bytes());
            }
            out.extend((tensor.ty as u32).to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            self.pad(&mut data);
        }
        self.pad(&mut out);
        out.extend(data);
        out
    }

    fn pad(&self, bytes: &mut Vec<u8>) {
        bytes.resize(bytes.len().next_multiple_of(self.alignment as usize), 0);
    }
}

/// Length (u64), then the bytes.
fn encoded_string(text: &[u8]) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes
}
