//! Metadata values and arrays, as views into the file.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result, shown};
use crate::reader::Reader;
use crate::view::View;

/// Arrays of arrays nest at most this deep; no known file nests at all.
const MAX_ARRAY_DEPTH: usize = 4;

/// Bytes of an array's own header: item type (u32) and count (u64).
const ARRAY_HEADER_BYTES: usize = 12;

/// Bytes of the length in front of every string.
const STRING_HEADER_BYTES: usize = 8;

/// The type of a metadata value. The discriminants are GGUF's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are GGUF's own names")]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// Type, name, bytes of one value (0 where the length varies); in order of id.
    const TABLE: [(ValueType, &'static str, usize); 13] = [
        (ValueType::U8, "u8", 1),
        (ValueType::I8, "i8", 1),
        (ValueType::U16, "u16", 2),
        (ValueType::I16, "i16", 2),
        (ValueType::U32, "u32", 4),
        (ValueType::I32, "i32", 4),
        (ValueType::F32, "f32", 4),
        (ValueType::Bool, "bool", 1),
        (ValueType::String, "string", 0),
        (ValueType::Array, "array", 0),
        (ValueType::U64, "u64", 8),
        (ValueType::I64, "i64", 8),
        (ValueType::F64, "f64", 8),
    ];

    /// The type with GGUF's id `id`.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::TABLE.get(id as usize).map(|row| row.0)
    }

    fn scalar_bytes(self) -> usize {
        Self::TABLE[self as usize].2
    }

    fn read(reader: &mut Reader<'_>, what: &str) -> Result<Self> {
        let id = reader.u32(what)?;
        Self::from_id(id)
            .ok_or_else(|| Error::invalid(what, format!("value type {id}"), "a value type 0 to 12"))
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::TABLE[*self as usize].1)
    }
}

/// One metadata value.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the variants are GGUF's own names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Text),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// The type the file gives this value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The value, if it is of any integer type.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => Some(v.into()),
            Value::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// The value, if it is an f32, or an f64 rounded to f32.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value, if it is a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is a string of valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => text.str(),
            _ => None,
        }
    }

    /// Type and value in a few words, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Value::F32(v) => format!("f32 {v}"),
            Value::F64(v) => format!("f64 {v}"),
            Value::Bool(v) => format!("bool {v}"),
            Value::String(text) => format!("string \"{}\"", shown(text.bytes())),
            Value::Array(array) => format!("array of {} {}", array.len(), array.item_type()),
            integer => {
                format!("{} {}", self.value_type(), integer.as_integer().unwrap_or_default())
            }
        }
    }

    /// Reads a value: its type, then itself. `key` is for messages.
    pub(crate) fn read(reader: &mut Reader<'_>, key: &Arc<str>) -> Result<Self> {
        match ValueType::read(reader, key)? {
            ValueType::String => {
                let n = reader.u64(key)?;
                Ok(Value::String(Text { view: reader.take_view(n, key)? }))
            }
            ValueType::Array => Ok(Value::Array(Array::read(reader, key, 1)?)),
            scalar => {
                let bytes = reader.take(scalar.scalar_bytes() as u64, key)?;
                Ok(Value::scalar(scalar, bytes))
            }
        }
    }

    /// Decodes one value of a type of fixed size; `bytes` are exactly that many.
    fn scalar(ty: ValueType, bytes: &[u8]) -> Self {
        /// `bytes` as the array a `from_le_bytes` takes.
        fn le<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.try_into().expect("the caller took the bytes of this type")
        }
        match ty {
            ValueType::U8 => Value::U8(bytes[0]),
            ValueType::I8 => Value::I8(bytes[0] as i8),
            ValueType::U16 => Value::U16(u16::from_le_bytes(le(bytes))),
            ValueType::I16 => Value::I16(i16::from_le_bytes(le(bytes))),
            ValueType::U32 => Value::U32(u32::from_le_bytes(le(bytes))),
            ValueType::I32 => Value::I32(i32::from_le_bytes(le(bytes))),
            ValueType::F32 => Value::F32(f32::from_le_bytes(le(bytes))),
            ValueType::Bool => Value::Bool(bytes[0] != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(le(bytes))),
            ValueType::I64 => Value::I64(i64::from_le_bytes(le(bytes))),
            ValueType::F64 => Value::F64(f64::from_le_bytes(le(bytes))),
            ValueType::String | ValueType::Array => unreachable!("not of fixed size"),
        }
    }
}

/// A string value: bytes that should be UTF-8 and are checked when asked for.
#[derive(Clone, Debug)]
pub struct Text {
    view: View,
}

impl Text {
    /// The bytes as they are in the file.
    pub fn bytes(&self) -> &[u8] {
        self.view.bytes()
    }

    /// The text; `None` when the bytes are not UTF-8.
    pub fn str(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()).ok()
    }
}

/// An array value.
#[derive(Clone, Debug)]
pub enum Array {
    /// Items of one numeric type, or bools.
    Scalars(ScalarArray),
    /// Strings, such as a vocabulary.
    Strings(StringArray),
    /// Arrays; at most four levels in all.
    Arrays(Box<[Array]>),
}

impl Array {
    /// Number of items.
    pub fn len(&self) -> usize {
        match self {
            Array::Scalars(items) => items.len(),
            Array::Strings(items) => items.len(),
            Array::Arrays(items) => items.len(),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the items.
    pub fn item_type(&self) -> ValueType {
        match self {
            Array::Scalars(items) => items.item_type,
            Array::Strings(_) => ValueType::String,
            Array::Arrays(_) => ValueType::Array,
        }
    }

    fn read(reader: &mut Reader<'_>, key: &Arc<str>, depth: usize) -> Result<Self> {
        let item_type = ValueType::read(reader, key)?;
        match item_type {
            ValueType::String => Ok(Array::Strings(StringArray::read(reader, key)?)),
            ValueType::Array if depth == MAX_ARRAY_DEPTH => Err(Error::invalid(
                &**key,
                format!("arrays nested {} deep", depth + 1),
                format!("at most {MAX_ARRAY_DEPTH} levels"),
            )),
            ValueType::Array => {
                let count = reader.count(ARRAY_HEADER_BYTES, key)?;
                let arrays: Result<_> =
                    (0..count).map(|_| Array::read(reader, key, depth + 1)).collect();
                arrays.map(Array::Arrays)
            }
            scalar => {
                let size = scalar.scalar_bytes();
                let count = reader.count(size, key)?;
                let view = reader.take_view((count * size) as u64, key)?;
                Ok(Array::Scalars(ScalarArray { item_type, view }))
            }
        }
    }
}

/// Items of one numeric type (or bool), decoded when asked for.
#[derive(Clone, Debug)]
pub struct ScalarArray {
    item_type: ValueType,
    view: View,
}

impl ScalarArray {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.view.len() / self.item_type.scalar_bytes()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.view.len() == 0
    }

    /// The items, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value> {
        let size = self.item_type.scalar_bytes();
        self.view.bytes().chunks_exact(size).map(|item| Value::scalar(self.item_type, item))
    }
}

/// An array of strings, kept as a table of offsets into the file: a vocabulary of
/// 256k entries costs 4 bytes each and no allocation per entry.
#[derive(Clone)]
pub struct StringArray {
    /// For messages.
    key: Arc<str>,
    /// The items as in the file: length (u64), bytes, length, bytes, …
    view: View,
    /// Where each item's bytes end in `view`; the next item's length follows.
    ends: Arc<Vec<u32>>,
}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} strings", self.len())
    }
}

impl StringArray {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `i`, which need not be UTF-8.
    ///
    /// # Panics
    /// When `i` is not below [`len`](Self::len).
    pub fn bytes(&self, i: usize) -> &[u8] {
        let previous_end = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.view.bytes()[previous_end + STRING_HEADER_BYTES..self.ends[i] as usize]
    }

    /// String `i`; an error naming key and index when it is not UTF-8.
    ///
    /// # Panics
    /// When `i` is not below [`len`](Self::len).
    pub fn str(&self, i: usize) -> Result<&str> {
        let bytes = self.bytes(i);
        std::str::from_utf8(bytes).map_err(|_| {
            let what = format!("{}[{i}]", self.key);
            Error::invalid(what, format!("\"{}\"", shown(bytes)), "valid UTF-8")
        })
    }

    /// The bytes of every string, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.bytes(i))
    }

    fn read(reader: &mut Reader<'_>, key: &Arc<str>) -> Result<Self> {
        let count = reader.count(STRING_HEADER_BYTES, key)?;
        let start = reader.position();
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            reader.string(key)?;
            let end = reader.position() - start;
            ends.push(u32::try_from(end).expect("a header is far shorter than 4 GiB"));
        }
        Ok(StringArray { key: key.clone(), view: reader.view_since(start), ends: ends.into() })
    }
}
