//! A weight on the CPU: the file's bytes and the format that reads them.

use std::sync::OnceLock;

use realm_gguf::TensorData;
use realm_ir::{Error, Result, StepKind, Uploaded};
use realm_quant::{ActivationView, Format, Kernel, OutputView};

use crate::zeroed::Zeroed;

/// A tensor with its kernel chosen.
pub(crate) struct CpuWeight {
    tensor: TensorData,
    format: &'static Format,
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
    bytes: Zeroed<u8>,
}

impl CpuWeight {
    /// # Errors
    /// `UnsupportedType` when the type has no compute format.
    pub fn new(tensor: &TensorData) -> Result<Self> {
        let Some(format) = realm_quant::format(tensor.ty()) else {
            let names: Vec<_> = realm_quant::supported().map(|ty| ty.name()).collect();
            return Err(Error::UnsupportedType {
                tensor: tensor.name().to_owned(),
                ty: tensor.ty(),
                backend: crate::backend::NAME,
                step: StepKind::Linear,
                supported: names.join(", "),
            });
        };
        Ok(CpuWeight {
            tensor: tensor.clone(),
            format,
            kernel: format.kernel(),
            values: OnceLock::new(),
            packed: OnceLock::new(),
        })
    }

    /// The weight behind a handle that this backend gave out.
    pub fn of(uploaded: &Uploaded) -> Result<&Self> {
        uploaded.downcast_ref().ok_or_else(|| Error::Unsupported {
            what: "a weight uploaded to another backend".to_owned(),
            backend: crate::backend::NAME,
        })
    }

    pub fn format(&self) -> &'static Format {
        self.format
    }

    pub fn name(&self) -> &str {
        self.tensor.name()
    }

    /// Values per row.
    pub fn row_len(&self) -> usize {
        self.tensor.row_len()
    }

    /// Rows: output columns of a matrix.
    pub fn n_rows(&self) -> usize {
        self.tensor.n_rows()
    }

    /// The bytes of `n_rows` rows from `first` on.
    pub fn row_bytes(&self, first: usize, n_rows: usize) -> &[u8] {
        let bytes = self.tensor.row_bytes();
        &self.tensor.bytes()[first * bytes..(first + n_rows) * bytes]
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
        let packed =
            self.packed.get().filter(|packed| first.is_multiple_of(packed.kernel.group_rows()));
        let n_packed = packed.map_or(0, |packed| packed.whole_groups(first, n));
        let (head, tail) = out.split_at(n_packed);
        if let Some(packed) = packed.filter(|_| n_packed > 0) {
            let bytes = packed.rows(first, n_packed, self.tensor.row_bytes());
            packed.kernel.matmul_into(bytes, n_packed, width, x, head)?;
        }
        if n_packed == n {
            return Ok(());
        }
        let bytes = self.row_bytes(first + n_packed, n - n_packed);
        self.kernel.matmul_into(bytes, n - n_packed, width, x, tail)
    }

    /// Bytes that a packed copy takes; 0 for types without one.
    pub fn packed_bytes(&self) -> usize {
        self.format.packed_kernel().map_or(0, |kernel| {
            let n_rows = self.n_rows() / kernel.group_rows() * kernel.group_rows();
            n_rows * self.tensor.row_bytes()
        })
    }

    /// Makes the packed copy, which is used from then on, and lets go of the file's bytes.
    /// Does nothing where there is one already, or no memory for it.
    pub fn pack(&self) {
        let bytes = self.packed_bytes();
        let Some(kernel) = self.format.packed_kernel().filter(|_| bytes > 0) else { return };
        if self.packed.get().is_some() {
            return;
        }
        let Some(mut packed) = Zeroed::in_large_pages(bytes) else { return };
        let n_rows = bytes / self.tensor.row_bytes();
        let rows = &self.tensor.bytes()[..bytes];
        kernel
            .pack(rows, n_rows, self.row_len(), packed.as_mut_slice())
            .expect("whole groups of whole rows");
        if self.packed.set(PackedRows { kernel, n_rows, bytes: packed }).is_ok() {
            self.tensor.release();
        }
    }

    /// One row's values.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        realm_quant::dequantize(self.format.ty, self.row_bytes(row, 1), out)
            .expect("a row is whole blocks of a type that has a format");
    }

    /// The values of a vector, such as a norm's factors or a bias.
    pub fn values(&self) -> &[f32] {
        self.values.get_or_init(|| {
            let mut values = vec![0.0; self.n_rows() * self.row_len()];
            realm_quant::dequantize(self.format.ty, self.tensor.bytes(), &mut values)
                .expect("a tensor is whole blocks of a type that has a format");
            values.into_boxed_slice()
        })
    }
}

impl PackedRows {
    /// How many of the `n` rows from `first` on, which begins a group, are packed.
    fn whole_groups(&self, first: usize, n: usize) -> usize {
        let group = self.kernel.group_rows();
        self.n_rows.saturating_sub(first).min(n) / group * group
    }

    /// The bytes of whole groups.
    fn rows(&self, first: usize, n: usize, row_bytes: usize) -> &[u8] {
        &self.bytes.as_slice()[first * row_bytes..(first + n) * row_bytes]
    }
}

#[cfg(test)]
mod tests {
    use realm_gguf::TensorType;
    use realm_quant::Activations;
    use realm_testkit::random::{self, Random};

    use super::*;

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
    fn packed_rows_give_what_the_file_gives_and_all_types_can_be_asked() {
        let mut n_packed = 0;
        for ty in realm_quant::supported() {
            for n_rows in [7, 32, 37] {
                let mut random = Random::new(n_rows as u64);
                let tensor = random::tensor(&mut random, "w", &[512, n_rows], ty, 1.0);
                let weight = CpuWeight::new(&tensor).unwrap();
                let mut x = Activations::new();
                x.reset(weight.format().activation, 9, 512).unwrap();
                (0..9).for_each(|row| x.quantize_row(row, &random.normals(512)).unwrap());
                let wanted = products(&weight, &x);
                weight.pack();
                assert_eq!(weight.packed.get().is_some(), weight.packed_bytes() > 0);
                n_packed += usize::from(weight.packed_bytes() > 0);
                assert!(products(&weight, &x) == wanted, "{ty}, {n_rows} rows");
                assert_eq!(weight.row_bytes(0, n_rows), tensor.bytes());
            }
        }
        let q8_0 = realm_quant::format(TensorType::Q8_0).unwrap();
        assert_eq!(n_packed > 0, q8_0.packed_kernel().is_some());
    }
}
