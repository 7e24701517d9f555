//! One model file to another: tensors pass through, some rows at a time.

use std::num::NonZero;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::thread;

use realm_gguf::{Gguf, Metadata, TensorData, TensorType};

use crate::imatrix::Importance;
use crate::mix::{self, Mix, Model};
use crate::output::{self, Output};
use crate::writer::{Entries, Tensor, Writer};
use crate::{Error, Imatrix, quantize_rows, same_file, value_range};

/// Values that a thread works on between two writes, a row at least. The caller can stop
/// the work as often.
const CHUNK_VALUES: usize = 1 << 18;
/// `general.quantization_version` of the block formats as they are now.
///
/// Source: `GGML_QNT_VERSION` in ggml `include/ggml.h`.
const QUANTIZATION_VERSION: u32 = 2;
/// What says that a file is one of several; the output is always one.
const SPLIT_KEYS: &[&str] = &["split.no", "split.count", "split.tensors.count"];

/// What to make of a model, and how.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// Which tensor gets which type.
    pub mix: Mix,
    /// A file that says how much each column matters; without it all matter alike.
    pub imatrix: Option<PathBuf>,
    /// Threads that work at once; by default as many as the machine has.
    pub threads: Option<NonZero<usize>>,
    /// Whether tensors that are quantised already may be quantised again.
    pub allow_requantize: bool,
}

impl QuantizeOptions {
    /// The mix, without an importance matrix, on all threads of the machine.
    pub fn new(mix: Mix) -> Self {
        Self { mix, imatrix: None, threads: None, allow_requantize: false }
    }
}

/// How far the work has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Name of the tensor being written.
    pub tensor: &'a str,
    /// Its type in the output.
    pub ty: TensorType,
    /// Bytes of tensors read so far.
    pub done_bytes: u64,
    /// Bytes of all tensors of the input.
    pub total_bytes: u64,
}

/// What has been done to one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorReport {
    /// GGUF's name.
    pub name: String,
    /// Type in the input.
    pub from: TensorType,
    /// Type in the output.
    pub to: TensorType,
    /// Whether the mix would have given it another type, whose blocks do not divide its rows.
    pub is_fallback: bool,
}

/// What has been done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// All tensors, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// Size of the input.
    pub input_bytes: u64,
    /// Size of the output.
    pub output_bytes: u64,
}

/// Writes the model at `input` to `output` with the types of a mix.
///
/// Metadata keeps its order; `general.file_type` and `general.quantization_version`
/// are set. A split model is joined; any of its parts may be named. The output has a temporary
/// name beside its own until it is complete: an error leaves an existing file as it is, and
/// what a run left that was ended from outside is removed by the next one to this output. A
/// symbolic link stays, and the file behind it is written; what is no regular file is refused.
/// Memory is bounded by the threads, not by the model.
///
/// `progress` is called after every piece of work; [`ControlFlow::Break`] stops.
///
/// # Errors
///
/// [`Error::Gguf`], [`Error::Imatrix`], [`Error::Io`], [`Error::SameFile`] for the
/// files; [`Error::AlreadyQuantized`], [`Error::NeedsImatrix`], [`Error::Dequantize`],
/// [`Error::NotFinite`], [`Error::TooLarge`] for a tensor; [`Error::Stopped`].
pub fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report, Error> {
    let gguf = Gguf::open(input)?;
    let output = output::target(output)?;
    same_file::check(&output, input, options.imatrix.as_deref())?;
    let imatrix = options.imatrix.as_ref().map(Imatrix::open).transpose()?;
    let tensors = planned(&gguf, options, imatrix.as_ref())?;
    let described: Vec<_> = tensors.iter().map(Planned::describe).collect();
    let replaced = [
        ("general.quantization_version", QUANTIZATION_VERSION),
        ("general.file_type", options.mix.file_type()),
    ];
    let entries = Entries::new(gguf.metadata(), SPLIT_KEYS, &replaced);
    let output = Output::create(&output)?;
    let mut writer = Writer::new(output, gguf.alignment(), &entries, &described)?;
    let threads = options.threads.or_else(|| thread::available_parallelism().ok());
    let mut work = Work {
        threads: threads.map_or(1, NonZero::get),
        imatrix: imatrix.as_ref(),
        writer: &mut writer,
        progress: &mut progress,
        done_bytes: 0,
        total_bytes: tensors.iter().map(|tensor| tensor.data.bytes().len() as u64).sum(),
    };
    for tensor in &tensors {
        work.tensor(tensor)?;
    }
    let output_bytes = writer.finish()?;
    let tensors = tensors.into_iter().map(|tensor| tensor.report).collect();
    Ok(Report { tensors, input_bytes: gguf.file_bytes(), output_bytes })
}

/// A tensor and what becomes of it.
struct Planned {
    data: TensorData,
    report: TensorReport,
}

impl Planned {
    fn describe(&self) -> Tensor<'_> {
        let ty = self.report.to;
        let n_bytes = self.data.n_rows() * row_bytes(ty, self.data.row_len());
        Tensor { name: self.data.name(), shape: self.data.shape(), ty, n_bytes: n_bytes as u64 }
    }
}

fn row_bytes(ty: TensorType, cols: usize) -> usize {
    cols / ty.block_len() * ty.block_bytes()
}

/// What [`quantize`] would do to the model at `input`: it fails where that would fail
/// before the first value is read, and writes nothing.
///
/// # Errors
///
/// [`Error::Gguf`], [`Error::Imatrix`] for the files; [`Error::AlreadyQuantized`],
/// [`Error::NeedsImatrix`] for a tensor.
pub fn plan(input: &Path, options: &QuantizeOptions) -> Result<Vec<TensorReport>, Error> {
    let imatrix = options.imatrix.as_ref().map(Imatrix::open).transpose()?;
    let tensors = planned(&Gguf::open(input)?, options, imatrix.as_ref())?;
    Ok(tensors.into_iter().map(|tensor| tensor.report).collect())
}

fn planned(
    gguf: &Gguf,
    options: &QuantizeOptions,
    imatrix: Option<&Imatrix>,
) -> Result<Vec<Planned>, Error> {
    let model = model(gguf.metadata(), imatrix.is_some())?;
    let chosen = mix::choose(options.mix, model, gguf.tensors());
    let tensors = gguf.tensors().iter().zip(chosen).map(|(tensor, (to, is_fallback))| {
        let (name, from) = (tensor.name().to_owned(), tensor.ty());
        let is_float = matches!(from, TensorType::F32 | TensorType::F16 | TensorType::BF16);
        if to != from && !is_float && !options.allow_requantize {
            return Err(Error::AlreadyQuantized { tensor: name, ty: from, wanted: to });
        }
        let is_known = imatrix.is_some_and(|imatrix| imatrix.contains(&name));
        if to != from && !is_known && mix::needs_imatrix(options.mix, &name, to) {
            let (mix, has_imatrix) = (options.mix, imatrix.is_some());
            return Err(Error::NeedsImatrix { tensor: name, ty: to, mix, has_imatrix });
        }
        let data = gguf.require_tensor(&name)?;
        Ok(Planned { data, report: TensorReport { name, from, to, is_fallback } })
    });
    tensors.collect()
}

/// What mixes want to know of a model. Keys that are absent count as 0: not every
/// file is a decoder.
fn model(metadata: &Metadata, has_imatrix: bool) -> Result<Model<'_>, Error> {
    let architecture = metadata.require_str("general.architecture")?;
    let key = |name: &str| format!("{architecture}.{name}");
    let number = |name: &str| -> Result<usize, Error> {
        let value = metadata.u32_or_array(&key(name))?;
        Ok(value.and_then(|value| value.get(0)).unwrap_or(0) as usize)
    };
    let n_heads = number("attention.head_count")?;
    let n_kv_heads = match number("attention.head_count_kv")? {
        0 => n_heads,
        n => n,
    };
    Ok(Model {
        architecture,
        n_layers: number("block_count")?,
        n_gqa: n_heads.checked_div(n_kv_heads).unwrap_or(1),
        n_experts: number("expert_count")?,
        has_imatrix,
    })
}

/// Tensors on their way to the output.
struct Work<'a, P> {
    threads: usize,
    imatrix: Option<&'a Imatrix>,
    writer: &'a mut Writer,
    progress: &'a mut P,
    done_bytes: u64,
    total_bytes: u64,
}

impl<P: FnMut(Progress<'_>) -> ControlFlow<()>> Work<'_, P> {
    fn tensor(&mut self, tensor: &Planned) -> Result<(), Error> {
        let (data, report) = (&tensor.data, &tensor.report);
        if report.from == report.to {
            for bytes in data.bytes().chunks(CHUNK_VALUES) {
                self.writer.write(bytes)?;
                self.advance(report, bytes.len())?;
            }
            return self.writer.end_tensor();
        }
        let (cols, n_rows) = (data.row_len(), data.n_rows());
        let rows_per_matrix = data.shape()[1];
        let importance = match self.imatrix {
            Some(imatrix) => imatrix.get(&report.name, cols, n_rows / rows_per_matrix)?,
            None => None,
        };
        let range = value_range(report.to)?;
        let rows = TensorRows { data, to: report.to, range, rows_per_matrix, importance };
        let rows_per_chunk = CHUNK_VALUES.div_ceil(cols);
        let out_row_bytes = row_bytes(report.to, cols);
        let mut out = vec![0; rows_per_chunk.min(n_rows) * self.threads * out_row_bytes];
        for first in (0..n_rows).step_by(rows_per_chunk * self.threads) {
            let n = (n_rows - first).min(rows_per_chunk * self.threads);
            let out = &mut out[..n * out_row_bytes];
            let rows_per_thread = n.div_ceil(self.threads);
            thread::scope(|scope| {
                let parts = out.chunks_mut(rows_per_thread * out_row_bytes).enumerate();
                let threads: Vec<_> = parts
                    .map(|(i, out)| {
                        let (rows, first) = (&rows, first + i * rows_per_thread);
                        scope.spawn(move || rows.quantize(first, out))
                    })
                    .collect();
                threads.into_iter().try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
            })?;
            self.writer.write(out)?;
            self.advance(report, n * data.row_bytes())?;
        }
        self.writer.end_tensor()
    }

    fn advance(&mut self, report: &TensorReport, n_bytes: usize) -> Result<(), Error> {
        self.done_bytes += n_bytes as u64;
        let progress = Progress {
            tensor: &report.name,
            ty: report.to,
            done_bytes: self.done_bytes,
            total_bytes: self.total_bytes,
        };
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}

/// Rows of one tensor, to be read by several threads.
struct TensorRows<'a> {
    data: &'a TensorData,
    to: TensorType,
    /// Values that the type can hold.
    range: RangeInclusive<f32>,
    rows_per_matrix: usize,
    importance: Option<Importance<'a>>,
}

impl TensorRows<'_> {
    /// Fills `out` with rows from `first` on.
    fn quantize(&self, first: usize, out: &mut [u8]) -> Result<(), Error> {
        let cols = self.data.row_len();
        let mut values = vec![0.0; cols];
        let read = self.data.bytes().chunks_exact(self.data.row_bytes()).skip(first);
        let write = out.chunks_exact_mut(row_bytes(self.to, cols));
        for (row, (bytes, out)) in (first..).zip(read.zip(write)) {
            realm_quant::dequantize(self.data.ty(), bytes, &mut values).map_err(|source| {
                Error::Dequantize { tensor: self.data.name().to_owned(), source }
            })?;
            if let Some(value) = values.iter().find(|value| !self.range.contains(value)) {
                return Err(self.refuse(row, *value));
            }
            let matrix = row / self.rows_per_matrix;
            let importance = self.importance.map(|importance| importance.matrix(matrix));
            quantize_rows(self.to, &values, cols, importance, out)?;
        }
        Ok(())
    }

    fn refuse(&self, row: usize, value: f32) -> Error {
        let (tensor, ty, range) = (self.data.name().to_owned(), self.to, self.range.clone());
        match value.is_finite() {
            true => Error::TooLarge { tensor, row, value, ty, range },
            false => Error::NotFinite { tensor, row, value },
        }
    }
}
