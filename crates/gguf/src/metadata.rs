//! The key-value section, with getters that say what is wrong with a key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result, shown};
use crate::reader::Reader;
use crate::value::{Array, ScalarArray, StringArray, Value};

/// Smallest entry: key length (8), one byte of key, type (4), one byte of value.
pub(crate) const MIN_ENTRY_BYTES: usize = 14;

/// The keys and values of a file, in file order.
///
/// The typed getters give `Ok(None)` for a key that is absent and an
/// [`Error::Invalid`] for one of another type; their `require_*` forms give an
/// error for both.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(Arc<str>, Value)>,
    by_key: HashMap<Arc<str>, usize>,
}

/// A number for all layers, or one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum U32OrArray {
    /// The same for every layer.
    One(u32),
    /// One per layer.
    Array(Vec<u32>),
}

impl U32OrArray {
    /// The number for layer `i`; `None` when the array is too short.
    pub fn get(&self, i: usize) -> Option<u32> {
        match self {
            U32OrArray::One(value) => Some(*value),
            U32OrArray::Array(values) => values.get(i).copied(),
        }
    }
}

impl Metadata {
    pub(crate) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Self> {
        let mut metadata = Metadata::default();
        for _ in 0..count {
            let key: Arc<str> = reader.name("metadata key")?.into();
            let label: Arc<str> = shown(key.as_bytes()).into();
            let value = Value::read(reader, &label)?;
            if metadata.by_key.insert(key.clone(), metadata.entries.len()).is_some() {
                return Err(Error::invalid(&*label, "the key a second time", "each key once"));
            }
            metadata.entries.push((key, value));
        }
        Ok(metadata)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|i| &self.entries[*i].1)
    }

    /// Every key with its value, in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// A number of any integer type that fits u32.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an integer of 0 to 4294967295", |v| v.as_integer()?.try_into().ok())
    }

    /// A number of any integer type that fits u64.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer of 0 to 18446744073709551615", |v| {
            v.as_integer()?.try_into().ok()
        })
    }

    /// An f32, or an f64 rounded to f32.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "an f32", Value::as_f32)
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", Value::as_bool)
    }

    /// A string of valid UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string of valid UTF-8", Value::as_str)
    }

    /// An array of any integer type whose items fit u32.
    pub fn u32_array(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.items(key, "an integer of 0 to 4294967295", |v| v.as_integer()?.try_into().ok())
    }

    /// An array of any integer type whose items fit i32.
    pub fn i32_array(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.items(key, "an integer of -2147483648 to 2147483647", |v| {
            v.as_integer()?.try_into().ok()
        })
    }

    /// An array of f32, or of f64 rounded to f32.
    pub fn f32_array(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.items(key, "an f32", |v| v.as_f32())
    }

    /// An array of bools, or of any integer type whose items are 0 or 1.
    pub fn bool_array(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.items(key, "a bool", |v| match v.as_integer() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => v.as_bool(),
        })
    }

    /// An array of strings, as a view.
    pub fn string_array(&self, key: &str) -> Result<Option<&StringArray>> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::Strings(strings)) => Some(strings),
            _ => None,
        })
    }

    /// One integer that fits u32, or an array of them.
    pub fn u32_or_array(&self, key: &str) -> Result<Option<U32OrArray>> {
        match self.get(key) {
            Some(Value::Array(_)) => Ok(self.u32_array(key)?.map(U32OrArray::Array)),
            _ => Ok(self.u32(key)?.map(U32OrArray::One)),
        }
    }

    /// [`u32`](Self::u32) of a key that must be there.
    pub fn require_u32(&self, key: &str) -> Result<u32> {
        required(key, "an integer", self.u32(key)?)
    }

    /// [`u64`](Self::u64) of a key that must be there.
    pub fn require_u64(&self, key: &str) -> Result<u64> {
        required(key, "an integer", self.u64(key)?)
    }

    /// [`f32`](Self::f32) of a key that must be there.
    pub fn require_f32(&self, key: &str) -> Result<f32> {
        required(key, "an f32", self.f32(key)?)
    }

    /// [`bool`](Self::bool) of a key that must be there.
    pub fn require_bool(&self, key: &str) -> Result<bool> {
        required(key, "a bool", self.bool(key)?)
    }

    /// [`str`](Self::str) of a key that must be there.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        required(key, "a string", self.str(key)?)
    }

    /// [`u32_array`](Self::u32_array) of a key that must be there.
    pub fn require_u32_array(&self, key: &str) -> Result<Vec<u32>> {
        required(key, "an array of integers", self.u32_array(key)?)
    }

    /// [`i32_array`](Self::i32_array) of a key that must be there.
    pub fn require_i32_array(&self, key: &str) -> Result<Vec<i32>> {
        required(key, "an array of integers", self.i32_array(key)?)
    }

    /// [`f32_array`](Self::f32_array) of a key that must be there.
    pub fn require_f32_array(&self, key: &str) -> Result<Vec<f32>> {
        required(key, "an array of f32", self.f32_array(key)?)
    }

    /// [`bool_array`](Self::bool_array) of a key that must be there.
    pub fn require_bool_array(&self, key: &str) -> Result<Vec<bool>> {
        required(key, "an array of bools", self.bool_array(key)?)
    }

    /// [`string_array`](Self::string_array) of a key that must be there.
    pub fn require_string_array(&self, key: &str) -> Result<&StringArray> {
        required(key, "an array of strings", self.string_array(key)?)
    }

    /// [`u32_or_array`](Self::u32_or_array) of a key that must be there.
    pub fn require_u32_or_array(&self, key: &str) -> Result<U32OrArray> {
        required(key, "an integer or an array of integers", self.u32_or_array(key)?)
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(Error::invalid(key, value.describe(), expected)),
        }
    }

    fn items<T>(
        &self,
        key: &str,
        expected: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let scalars: Option<&ScalarArray> =
            self.typed(key, "an array of numbers", |v| match v {
                Value::Array(Array::Scalars(scalars)) => Some(scalars),
                _ => None,
            })?;
        let Some(scalars) = scalars else { return Ok(None) };
        let item = |(i, value): (usize, Value)| {
            convert(&value)
                .ok_or_else(|| Error::invalid(format!("{key}[{i}]"), value.describe(), expected))
        };
        scalars.iter().enumerate().map(item).collect::<Result<_>>().map(Some)
    }
}

fn required<T>(key: &str, expected: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::invalid(key, "no such key in the file", expected))
}
