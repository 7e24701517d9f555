//! A weight on the CPU: the file's bytes and the format that reads them.

use std::sync::OnceLock;

use realm_gguf::TensorData;
use realm_ir::{Error, Result, StepKind, Uploaded};
use realm_quant::{Format, Kernel};

/// A tensor with its kernel chosen.
pub(crate) struct CpuWeight {
    tensor: TensorData,
    format: &'static Format,
    kernel: &'static Kernel,
    /// All values, made when a step wants the weight as a plain vector.
    values: OnceLock<Box<[f32]>>,
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
        let (kernel, values) = (format.kernel(), OnceLock::new());
        Ok(CpuWeight { tensor: tensor.clone(), format, kernel, values })
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

    pub fn kernel(&self) -> &'static Kernel {
        self.kernel
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
