//! A weight on the CPU: the file's bytes and the format that reads them.
//!
//! Rows can be copied, interleaved as kernels load them. Where files are mapped, that is
//! done in the background, and the file's bytes stay in use wherever the copy does not
//! reach. On WebAssembly, where whatever is loaded is a copy already, all rows are
//! interleaved at once and the file's bytes are let go.

use std::sync::{Arc, OnceLock};

use realm_gguf::TensorData;
use realm_ir::{Error, Result, Uploaded, WeightRef};
use realm_quant::{ActivationView, Format, Kernel, Level, OutputView};

use crate::zeroed::Zeroed;

/// Whether uploading packs: where nothing is mapped, what is loaded is a copy anyway.
pub(crate) const IS_PACKED_WHOLE: bool = cfg!(target_family = "wasm");

/// What can compute with a tensor.
///
/// # Errors
/// `UnsupportedType` when nothing can.
pub(crate) fn format_of(tensor: &TensorData) -> Result<&'static Format> {
    realm_quant::format(tensor.ty()).ok_or_else(|| {
        let names: Vec<_> = realm_quant::supported().map(|ty| ty.name()).collect();
        Error::UnsupportedType {
            tensor: tensor.name().to_owned(),
            ty: tensor.ty(),
            backend: crate::NAME,
            step: "Linear",
            supported: names.join(", "),
        }
    })
}

/// The kernel for packed rows of a tensor.
fn packed_kernel(tensor: &TensorData, level: Level) -> Option<&'static Kernel> {
    realm_quant::format(tensor.ty())?.packed_kernel(level)
}

/// Bytes that a tensor takes once it is uploaded: the file's own, or all rows in whole groups.
pub(crate) fn uploaded_bytes(tensor: &TensorData, level: Level) -> usize {
    match packed_kernel(tensor, level).filter(|_| IS_PACKED_WHOLE) {
        Some(kernel) => {
            let group_bytes = kernel.group_rows() * tensor.row_bytes();
            tensor.n_bytes().next_multiple_of(group_bytes.max(1))
        }
        None => tensor.n_bytes(),
    }
}

/// Bytes that a packed copy of a tensor beside its own bytes takes: whole groups of its rows.
/// 0 for types without one, and where uploading packs.
pub(crate) fn packed_bytes(tensor: &TensorData, level: Level) -> usize {
    packed_kernel(tensor, level).filter(|_| !IS_PACKED_WHOLE).map_or(0, |kernel| {
        let n_rows = tensor.n_rows() / kernel.group_rows() * kernel.group_rows();
        n_rows * tensor.row_bytes()
    })
}

/// A tensor with its kernel chosen.
pub(crate) struct CpuWeight {
    name: Box<str>,
    row_len: usize,
    n_rows: usize,
    bytes_per_row: usize,
    /// The file's bytes, unless all are in `packed`.
    tensor: Option<TensorData>,
    format: &'static Format,
    level: Level,
    kernel: &'static Kernel,
    /// All values, made when a step wants the weight as a plain vector.
    values: OnceLock<Box<[f32]>>,
    /// A copy with rows interleaved, from when it is complete.
    packed: OnceLock<PackedRows>,
}

/// Rows in whole groups, as a kernel interleaves them.
struct PackedRows {
    kernel: &'static Kernel,
    n_rows: usize,
    bytes_per_row: usize,
    bytes: Zeroed<u8>,
}

impl CpuWeight {
    /// # Errors
    /// `UnsupportedType` when the type has no compute format; on WebAssembly `OutOfMemory`.
    pub fn new(tensor: &TensorData, level: Level) -> Result<Self> {
        let format = format_of(tensor)?;
        let mut weight = CpuWeight {
            name: tensor.name().into(),
            row_len: tensor.row_len(),
            n_rows: tensor.n_rows(),
            bytes_per_row: tensor.row_bytes(),
            tensor: Some(tensor.clone()),
            format,
            level,
            kernel: format.kernel(level),
            values: OnceLock::new(),
            packed: OnceLock::new(),
        };
        if IS_PACKED_WHOLE && let Some(kernel) = format.packed_kernel(level) {
            weight.pack_all(kernel)?;
        }
        Ok(weight)
    }

    /// Packs all rows, zeros filling up the last group, and lets go of the file's bytes.
    fn pack_all(&mut self, kernel: &'static Kernel) -> Result<()> {
        let Some(tensor) = self.tensor.take() else { return Ok(()) };
        let bytes = tensor.bytes();
        let group_bytes = kernel.group_rows() * self.bytes_per_row;
        let whole = bytes.len() / group_bytes * group_bytes;
        let needed = bytes.len().next_multiple_of(group_bytes.max(1));
        let Some(mut packed) = Zeroed::new(needed) else {
            return Err(Error::OutOfMemory { what: self.name.to_string(), bytes: needed });
        };
        let mut last = bytes[whole..].to_vec();
        last.resize(needed - whole, 0);
        let (groups, filled_up) = packed.as_mut_slice().split_at_mut(whole);
        for (from, to) in [(&bytes[..whole], groups), (&last[..], filled_up)] {
            let n_rows = from.len() / self.bytes_per_row.max(1);
            kernel.pack(from, n_rows, self.row_len, to).expect("whole groups of whole rows");
        }
        let n_rows = self.n_rows.next_multiple_of(kernel.group_rows());
        let packed =
            PackedRows { kernel, n_rows, bytes_per_row: self.bytes_per_row, bytes: packed };
        self.packed = OnceLock::from(packed);
        Ok(())
    }

    pub fn format(&self) -> &'static Format {
        self.format
    }

    /// The level of its kernels.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What a product with this weight was refused for.
    pub fn misfit(&self, error: realm_quant::Error) -> Error {
        match error {
            realm_quant::Error::Length { what, expected, found } => {
                let what = format!("{}: {what}", self.name);
                Error::ShapeMismatch { what, expected, found }
            }
            other => Error::InvalidBatch { message: format!("{}: {other}", self.name) },
        }
    }

    /// Values per row.
    pub fn row_len(&self) -> usize {
        self.row_len
    }

    /// Rows: output columns of a matrix.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The file's bytes of `n_rows` rows from `first` on; `None` when all are packed.
    fn file_rows(&self, first: usize, n_rows: usize) -> Option<&[u8]> {
        let bytes = self.bytes_per_row;
        Some(&self.tensor.as_ref()?.bytes()[first * bytes..(first + n_rows) * bytes])
    }

    /// `out[t][r] = sum over k of w[first + r][k] * x[t][k]`, as many rows as `out` has.
    ///
    /// The results are the same whether the rows have been packed or not.
    ///
    /// # Errors
    /// When activations and output do not fit the weight.
    pub fn matmul(
        &self,
        first: usize,
        x: ActivationView<'_>,
        out: OutputView<'_>,
    ) -> std::result::Result<(), realm_quant::Error> {
        let (n, width) = (out.rows(), self.row_len());
        let packed = self.packed.get();
        if let (None, Some(packed)) = (&self.tensor, packed) {
            return packed.matmul(first, width, x, out);
        }
        let packed = packed.filter(|packed| first.is_multiple_of(packed.kernel.group_rows()));
        let n_packed = packed.map_or(0, |packed| packed.whole_groups(first, n));
        let (head, tail) = out.split_at(n_packed);
        if let Some(packed) = packed.filter(|_| n_packed > 0) {
            let bytes = packed.rows(first, n_packed);
            packed.kernel.matmul_into(bytes, n_packed, width, x, head)?;
        }
        if n_packed == n {
            return Ok(());
        }
        let bytes =
            self.file_rows(first + n_packed, n - n_packed).expect("what is not packed is kept");
        self.kernel.matmul_into(bytes, n - n_packed, width, x, tail)
    }

    /// Bytes that a packed copy takes; 0 for types without one, and when all is packed.
    pub fn packed_bytes(&self) -> usize {
        self.tensor.as_ref().map_or(0, |tensor| packed_bytes(tensor, self.level))
    }

    /// Makes the packed copy, which is used from then on, and lets go of the file's bytes.
    /// Does nothing where there is one already, or no memory for it.
    pub fn pack(&self) {
        let bytes = self.packed_bytes();
        let Some(kernel) = self.format.packed_kernel(self.level).filter(|_| bytes > 0) else {
            return;
        };
        if self.packed.get().is_some() {
            return;
        }
        let Some(tensor) = &self.tensor else { return };
        let Some(mut packed) = Zeroed::in_large_pages(bytes) else { return };
        let n_rows = bytes / self.bytes_per_row;
        let rows = &tensor.bytes()[..bytes];
        kernel
            .pack(rows, n_rows, self.row_len(), packed.as_mut_slice())
            .expect("whole groups of whole rows");
        let bytes_per_row = self.bytes_per_row;
        if self.packed.set(PackedRows { kernel, n_rows, bytes_per_row, bytes: packed }).is_ok() {
            tensor.release();
        }
    }

    /// One row's values.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        let unpacked;
        let bytes = match (self.file_rows(row, 1), self.packed.get()) {
            (Some(bytes), _) => bytes,
            (None, packed) => {
                unpacked = packed.expect("what is not packed is kept").unpack_row(row);
                &unpacked
            }
        };
        realm_quant::dequantize(self.format.ty, bytes, out)
            .expect("a row is whole blocks of a type that has a format");
    }

    /// The values of a vector, such as a norm's factors or a bias.
    pub fn values(&self) -> &[f32] {
        self.values.get_or_init(|| {
            let mut values = vec![0.0; self.n_rows() * self.row_len()];
            let rows = values.chunks_exact_mut(self.row_len().max(1));
            rows.enumerate().for_each(|(row, values)| self.dequantize_row(row, values));
            // Nobody reads the file's own bytes any more.
            if let Some(tensor) = &self.tensor {
                tensor.release();
            }
            values.into_boxed_slice()
        })
    }
}

/// A weight of a program, kept alive.
#[derive(Clone)]
pub(crate) struct WeightHandle {
    weight: Arc<CpuWeight>,
    reference: WeightRef,
}

impl WeightHandle {
    /// The weight behind what this backend gave out.
    ///
    /// # Errors
    /// `Unsupported` for a weight of another backend.
    pub fn new(uploaded: &Uploaded, reference: WeightRef) -> Result<Self> {
        let weight = Arc::clone(uploaded).downcast().map_err(|_| Error::Unsupported {
            what: "a weight uploaded to another backend".to_owned(),
            backend: crate::NAME,
        })?;
        Ok(WeightHandle { weight, reference })
    }

    /// What adapters know the weight by.
    pub fn reference(&self) -> WeightRef {
        self.reference
    }
}

impl std::ops::Deref for WeightHandle {
    type Target = CpuWeight;

    fn deref(&self) -> &CpuWeight {
        &self.weight
    }
}

impl PackedRows {
    /// How many of the `n` rows from `first` on, which begins a group, are packed.
    fn whole_groups(&self, first: usize, n: usize) -> usize {
        let group = self.kernel.group_rows();
        self.n_rows.saturating_sub(first).min(n) / group * group
    }

    /// The bytes of whole groups.
    fn rows(&self, first: usize, n: usize) -> &[u8] {
        &self.bytes.as_slice()[first * self.bytes_per_row..(first + n) * self.bytes_per_row]
    }

    /// The bytes of one row in GGUF's layout.
    fn unpack_row(&self, row: usize) -> Vec<u8> {
        let group = self.kernel.group_rows();
        let mut out = vec![0; self.bytes_per_row];
        let rows = self.rows(row / group * group, group);
        self.kernel.unpack_row(rows, row % group, &mut out).expect("a whole group");
        out
    }

    /// [`CpuWeight::matmul`] where all rows are packed: of groups that `out` has in part,
    /// all are multiplied, and what is asked for is kept.
    fn matmul(
        &self,
        first: usize,
        width: usize,
        x: ActivationView<'_>,
        out: OutputView<'_>,
    ) -> std::result::Result<(), realm_quant::Error> {
        let group = self.kernel.group_rows();
        let (n, skipped) = (out.rows(), first % group);
        let n_before = if skipped == 0 { 0 } else { n.min(group - skipped) };
        let (before, rest) = out.split_at(n_before);
        let n_whole = (n - n_before) / group * group;
        let (whole, after) = rest.split_at(n_whole);
        let first_whole = first + n_before;
        if n_whole > 0 {
            self.kernel.matmul_into(self.rows(first_whole, n_whole), n_whole, width, x, whole)?;
        }
        for (first, mut part) in [(first, before), (first_whole + n_whole, after)] {
            if part.rows() == 0 {
                continue;
            }
            let skipped = first % group;
            let mut all = vec![0.0; x.rows() * group];
            self.kernel.matmul(self.rows(first - skipped, group), group, width, x, &mut all)?;
            for (token, all) in all.chunks_exact(group).enumerate() {
                let part = part.token(token);
                part.copy_from_slice(&all[skipped..][..part.len()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use realm_gguf::TensorType;
    use realm_quant::Activations;
    use realm_testkit::random::{self, Random};

    use super::*;

    /// All rows together and each alone, by the file's bytes.
    fn products_of_file(tensor: &TensorData, level: Level, x: &Activations) -> Vec<u32> {
        let (n, width) = (tensor.n_rows(), tensor.row_len());
        let kernel = realm_quant::format(tensor.ty()).unwrap().kernel(level);
        let mut all = vec![0.0; x.rows() * n];
        kernel.matmul(tensor.bytes(), n, width, x.view(0..x.rows()), &mut all).unwrap();
        let alone = (0..n).flat_map(|row| all[row..].iter().step_by(n));
        all.iter().chain(alone).map(|value| value.to_bits()).collect()
    }

    /// Every row alone and all together, by the bits.
    fn products(weight: &CpuWeight, x: &Activations) -> Vec<u32> {
        let n = weight.n_rows();
        let mut all = vec![0.0; x.rows() * n];
        let view = || x.view(0..x.rows());
        weight.matmul(0, view(), OutputView::new(&mut all, x.rows(), n).unwrap()).unwrap();
        for row in 0..n {
            let mut one = vec![0.0; x.rows()];
            weight.matmul(row, view(), OutputView::new(&mut one, x.rows(), 1).unwrap()).unwrap();
            all.extend(one);
        }
        all.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn packed_rows_give_what_the_file_gives_and_all_types_can_be_asked_at_every_level() {
        for level in Level::available() {
            let n_packed: usize = realm_quant::supported().map(|ty| check_type(ty, level)).sum();
            let q8_0 = realm_quant::format(TensorType::Q8_0).unwrap();
            assert_eq!(n_packed > 0, q8_0.packed_kernel(level).is_some());
        }
    }

    /// How many shapes of the type were packed.
    fn check_type(ty: TensorType, level: Level) -> usize {
        let mut n_packed = 0;
        for n_rows in [7, 32, 37] {
            let mut random = Random::new(n_rows as u64);
            let tensor = random::tensor(&mut random, "w", &[512, n_rows], ty, 1.0);
            let weight = CpuWeight::new(&tensor, level).unwrap();
            let mut x = Activations::new(level);
            x.reset(weight.format().activation, 9, 512).unwrap();
            (0..9).for_each(|row| x.quantize_row(row, &random.normals(512)).unwrap());
            let wanted = products_of_file(&tensor, level, &x);
            assert!(products(&weight, &x) == wanted, "{ty}, {n_rows} rows, {level}");
            weight.pack();
            assert!(weight.packed.get().is_some() || weight.packed_bytes() == 0);
            n_packed += usize::from(weight.packed.get().is_some());
            assert!(products(&weight, &x) == wanted, "{ty}, {n_rows} rows, {level}");
            let mut values = vec![0.0; 512 * n_rows];
            realm_quant::dequantize(ty, tensor.bytes(), &mut values).unwrap();
            assert_eq!(weight.values(), values);
        }
        n_packed
    }
}
