//! The header of a sound file, to be changed one number or shape at a time, and files made of it.
//!
//! Values of tensors are not written: they are made as they are read, from where they are, so
//! that a file costs its header however large its tensors have become.

use std::sync::Arc;

use realm_gguf::{Gguf, ReadAt, TensorType, ValueType};

/// Metadata as it is in a file, and names and shapes of F32 tensors.
#[derive(Clone, Debug)]
pub struct Header {
    n_entries: u64,
    /// Every entry, encoded.
    metadata: Vec<u8>,
    numbers: Vec<Number>,
    tensors: Vec<(String, Vec<usize>)>,
}

/// A u32 of the metadata, alone or in an array.
#[derive(Clone, Debug)]
struct Number {
    key: String,
    /// Where it is in [`Header::metadata`].
    at: usize,
}

impl Header {
    /// The header of a file whose tensors are all F32.
    ///
    /// # Panics
    /// When the file is not sound.
    pub fn of(file: &[u8]) -> Self {
        let gguf = Gguf::from_bytes(file.to_vec()).expect("a sound file");
        let tensors = gguf.tensors().iter();
        let tensors = tensors.map(|tensor| (tensor.name().to_owned(), tensor.shape().to_vec()));
        // Magic, version, counts.
        let mut reader = Reader { bytes: file, at: 16, numbers: Vec::new() };
        let n_entries = reader.u64();
        let first = reader.at;
        for _ in 0..n_entries {
            reader.entry();
        }
        let metadata = file[first..reader.at].to_vec();
        let mut numbers = reader.numbers;
        numbers.iter_mut().for_each(|number| number.at -= first);
        Header { n_entries, metadata, numbers, tensors: tensors.collect() }
    }

    /// Keys of the numbers that the header can be changed in, each with its value. Those of an
    /// array are listed one by one.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.numbers.iter().map(|number| (number.key.as_str(), self.number(number)))
    }

    fn number(&self, number: &Number) -> u32 {
        let bytes = self.metadata[number.at..].first_chunk().expect("four bytes");
        u32::from_le_bytes(*bytes)
    }

    /// The same header with another value of the number at `index` of [`Header::numbers`].
    pub fn with(&self, index: usize, value: u32) -> Self {
        let mut changed = self.clone();
        let at = self.numbers[index].at;
        changed.metadata[at..at + 4].copy_from_slice(&value.to_le_bytes());
        changed
    }

    /// Gives a tensor another shape, and with it those that have its name in other blocks and
    /// its shape so far. False when there is no such tensor.
    pub fn reshape(&mut self, name: &str, shape: &[usize]) -> bool {
        let part =
            |name: &str| match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
                Some((_, part)) => part.to_owned(),
                None => name.to_owned(),
            };
        let Some((_, old)) = self.tensors.iter().find(|tensor| tensor.0 == name).cloned() else {
            return false;
        };
        let alike =
            |tensor: &&mut (String, Vec<usize>)| tensor.1 == old && part(&tensor.0) == part(name);
        self.tensors.iter_mut().filter(alike).for_each(|tensor| tensor.1 = shape.to_vec());
        true
    }

    /// Values of all tensors.
    pub fn n_values(&self) -> usize {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The file: values between 0.02 and 0.25 that depend on their places.
    ///
    /// # Errors
    /// Those of [`Gguf::from_remote`].
    pub fn file(&self) -> realm_gguf::Result<Gguf> {
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend(self.n_entries.to_le_bytes());
        head.extend(&self.metadata);
        let mut n_bytes = 0u64;
        for (name, shape) in &self.tensors {
            head.extend((name.len() as u64).to_le_bytes());
            head.extend(name.as_bytes());
            head.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|dim| head.extend((*dim as u64).to_le_bytes()));
            head.extend((TensorType::F32 as u32).to_le_bytes());
            head.extend(n_bytes.to_le_bytes());
            n_bytes += (4 * shape.iter().product::<usize>() as u64).next_multiple_of(ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT as usize), 0);
        let n_bytes = n_bytes + head.len() as u64;
        Gguf::from_remote(vec![Arc::new(Made { head, n_bytes })])
    }
}

/// Of tensors, where the file does not say.
const ALIGNMENT: u64 = 32;

/// A file of which only the beginning is kept.
struct Made {
    head: Vec<u8>,
    n_bytes: u64,
}

impl ReadAt for Made {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), String> {
        if offset == 0 {
            // The header; what is behind it is not looked at then.
            let n = self.head.len().min(out.len());
            out[..n].copy_from_slice(&self.head[..n]);
            return Ok(());
        }
        for (index, value) in (offset as u32 / 4..).zip(out.chunks_exact_mut(4)) {
            // The upper bits of a product with the golden ratio are all over the place.
            let fraction = (index.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 24) as f32;
            value.copy_from_slice(&(0.02 + 0.23 * fraction).to_le_bytes());
        }
        Ok(())
    }
}

/// Walks over metadata.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    numbers: Vec<Number>,
}

impl Reader<'_> {
    fn u32(&mut self) -> u32 {
        self.at += 4;
        u32::from_le_bytes(*self.bytes[self.at - 4..].first_chunk().expect("a sound file"))
    }

    fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    fn string(&mut self) -> String {
        let len = self.u64() as usize;
        self.at += len;
        String::from_utf8_lossy(&self.bytes[self.at - len..self.at]).into_owned()
    }

    fn entry(&mut self) {
        let key = self.string();
        let ty = self.u32();
        self.value(&key, ty);
    }

    fn value(&mut self, key: &str, ty: u32) {
        const U32: u32 = ValueType::U32 as u32;
        const STRING: u32 = ValueType::String as u32;
        const ARRAY: u32 = ValueType::Array as u32;
        match ty {
            STRING => drop(self.string()),
            ARRAY => {
                let ty = self.u32();
                let n = self.u64();
                (0..n).for_each(|_| self.value(key, ty));
            }
            U32 => {
                self.numbers.push(Number { key: key.to_owned(), at: self.at });
                self.at += 4;
            }
            other => self.at += size_of_value(other),
        }
    }
}

/// Bytes of a number or a truth value, by the number of its type.
fn size_of_value(ty: u32) -> usize {
    const SIZES: [(ValueType, usize); 10] = [
        (ValueType::U8, 1),
        (ValueType::I8, 1),
        (ValueType::Bool, 1),
        (ValueType::U16, 2),
        (ValueType::I16, 2),
        (ValueType::I32, 4),
        (ValueType::F32, 4),
        (ValueType::U64, 8),
        (ValueType::I64, 8),
        (ValueType::F64, 8),
    ];
    SIZES.into_iter().find(|(known, _)| *known as u32 == ty).expect("a known type").1
}
