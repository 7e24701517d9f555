//! LoRA adapters in GGUF files (arXiv 2106.09685): pairs of small matrices whose
//! product is added to a tensor of the model.
//!
//! Of tensor `X`, `X.lora_a` is `[in_width, rank]` and `X.lora_b` is
//! `[rank, out_width]`; of an embedding table, `a` is `[rank, entries]` and `b` is
//! `[rank, width]`; of experts, both have a third dimension. The factor on their
//! product is `adapter.lora.alpha / rank`, or 1 where alpha is 0.
//! Format: `convert_lora_to_gguf.py` and `src/llama-adapter.cpp` of llama.cpp.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use realm_gguf::{Gguf, TensorData};
use realm_ir::{Adapter, LowRank, Program, Step, WeightRef};

use crate::derived::gather_rows;
use crate::error::{Error, Result};
use crate::finite::check_finite;
use crate::program_builder::matrix_scale;

/// Which rows of their tensor the weights hold that are only a part of one.
pub type WeightRows = HashMap<WeightRef, Vec<Range<usize>>>;

/// What an adapter's file says about itself.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// `general.name`
    pub name: Option<String>,
    /// The largest rank of its pairs.
    pub rank: usize,
    /// Its factor times the rank; 0 stands for a factor of 1.
    pub alpha: f32,
    /// Tensors of the model that it adds to.
    pub n_tensors: usize,
    /// Bytes of its matrices.
    pub bytes: u64,
}

/// Reads an adapter for the program that [`crate::build`] made of `base`.
///
/// # Errors
/// `MODEL_INVALID` for a file that is no adapter, one of another architecture, and pairs
/// that are not whole, not finite or do not fit a tensor of the model; `MODEL_UNSUPPORTED` for what
/// would have to be ignored.
pub fn read_adapter(
    file: &Gguf,
    base: &Gguf,
    program: &Program,
    parts: &WeightRows,
) -> Result<(Adapter, AdapterInfo)> {
    let alpha = check_metadata(file, base)?;
    let targets = Targets::new(program);
    let mut adapter = Adapter::default();
    let mut info = AdapterInfo {
        name: file.metadata().str("general.name")?.map(str::to_owned),
        rank: 0,
        alpha,
        n_tensors: 0,
        bytes: file.tensors().iter().map(|tensor| tensor.n_bytes() as u64).sum(),
    };
    for (name, pair) in pairs(file)? {
        let shape = base_shape(base, &name)?;
        let target = targets.of(&name)?;
        let rank = pair.b.row_len();
        let matrices = if shape.len() > 2 { &shape[2..] } else { &[] };
        let (width, n_rows) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let (a_shape, b_shape) = match target {
            Target::Lookup(_) => ([rank, n_rows], [rank, width]),
            Target::Products(_) => ([width, rank], [rank, n_rows]),
        };
        let a = checked(&pair.a, &[&a_shape, matrices].concat())?;
        let b = checked(&pair.b, &[&b_shape, matrices].concat())?;
        (info.rank, info.n_tensors) = (info.rank.max(rank), info.n_tensors + 1);
        let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
        match target {
            Target::Lookup(weight) => {
                adapter.lookups.push(LowRank { weight, a, b, scale });
            }
            Target::Products(weights) => {
                // A factor on the whole matrix is not one on what is added to it.
                let scale = scale / matrix_scale(base, name.trim_end_matches(".weight"))?;
                for weight in weights {
                    let (a, b) = match parts.get(weight) {
                        // One of a stack of matrices has its own matrix of either half.
                        Some(rows) if !matrices.is_empty() => {
                            let index = rows[0].start / n_rows;
                            (
                                a.rows(index * rank..(index + 1) * rank)?,
                                gather_rows(&b, rows)?.fetch()?,
                            )
                        }
                        Some(rows) => (a.clone(), gather_rows(&b, rows)?.fetch()?),
                        None => (a.clone(), b.clone()),
                    };
                    adapter.products.push(LowRank { weight: *weight, a, b, scale });
                }
            }
        }
    }
    if info.n_tensors == 0 {
        return Err(Error::invalid("the adapter", "no tensors", "pairs of lora_a and lora_b"));
    }
    Ok((adapter, info))
}

/// Checks what the file says it is; gives alpha.
fn check_metadata(file: &Gguf, base: &Gguf) -> Result<f32> {
    let key = "general.type";
    match file.metadata().str(key)? {
        Some("adapter") => {}
        found => {
            let found = found.map_or("nothing".to_owned(), |found| format!("\"{found}\""));
            return Err(Error::invalid(key, found, "\"adapter\": this is no LoRA adapter"));
        }
    }
    let key = "adapter.type";
    let kind = file.metadata().require_str(key)?;
    if kind != "lora" {
        return Err(Error::unsupported(key, format!("\"{kind}\""), "lora"));
    }
    let key = "general.architecture";
    let (found, wanted) = (file.metadata().require_str(key)?, base.metadata().require_str(key)?);
    if found != wanted {
        return Err(Error::invalid(key, found, format!("{wanted}, the model's")));
    }
    let key = "adapter.alora.invocation_tokens";
    if file.metadata().get(key).is_some() {
        let found = "an adapter that begins to count at certain tokens";
        return Err(Error::unsupported(key, found, "adapters that count for every token"));
    }
    let key = "adapter.lora.alpha";
    let alpha = file.metadata().require_f32(key)?;
    match alpha.is_finite() {
        true => Ok(alpha),
        false => Err(Error::invalid(key, alpha, "a finite number")),
    }
}

/// The two matrices for one tensor of the model.
struct Pair {
    a: TensorData,
    b: TensorData,
}

/// Pairs by the name of the tensor that they are added to.
fn pairs(file: &Gguf) -> Result<BTreeMap<String, Pair>> {
    let mut names = HashSet::new();
    for tensor in file.tensors() {
        let name = tensor.name();
        let base = name.strip_suffix(".lora_a").or_else(|| name.strip_suffix(".lora_b"));
        let Some(base) = base else {
            let supported = "pairs of tensors whose names end with .lora_a and .lora_b";
            return Err(Error::unsupported(name, "a tensor of another kind", supported));
        };
        names.insert(base.to_owned());
    }
    let half = |name: &str, suffix: &str| -> Result<TensorData> {
        let full = format!("{name}.{suffix}");
        let Some(tensor) = file.tensor(&full) else {
            return Err(Error::invalid(full, "nothing", "the other half of its pair"));
        };
        if !realm_quant::is_supported(tensor.ty()) {
            let supported: Vec<_> = realm_quant::supported().map(|ty| ty.name()).collect();
            let found = format!("type {}", tensor.ty());
            return Err(Error::unsupported(full, found, supported.join(", ")));
        }
        // Small enough to be looked at before anybody runs with it.
        check_finite(&tensor, &|| true)?;
        Ok(tensor)
    };
    let pair = |name: String| {
        let pair = Pair { a: half(&name, "lora_a")?, b: half(&name, "lora_b")? };
        Ok((name, pair))
    };
    names.into_iter().map(pair).collect()
}

fn base_shape(base: &Gguf, name: &str) -> Result<Vec<usize>> {
    match base.tensor(name) {
        Some(tensor) => Ok(without_ones(tensor.shape()).to_vec()),
        None => {
            let expected = "a tensor of the model; is the adapter made for another?";
            Err(Error::invalid(name, "an adapter for it, and no such tensor", expected))
        }
    }
}

/// A half in this shape, if that is its own but for dimensions of 1 at the end.
fn checked(half: &TensorData, shape: &[usize]) -> Result<TensorData> {
    half.in_shape(shape).ok_or_else(|| {
        let found = format!("shape {:?}", half.shape());
        let expected = format!("shape {shape:?}, from the model's tensor and the rank of lora_b");
        Error::invalid(half.name(), found, expected)
    })
}

/// A shape without the dimensions of 1 at its end.
fn without_ones(shape: &[usize]) -> &[usize] {
    let last = shape.iter().rposition(|dim| *dim != 1).unwrap_or(0);
    &shape[..=last]
}

/// What of a program can be added to.
enum Target<'a> {
    /// A table whose rows are looked up.
    Lookup(WeightRef),
    /// The parts of a matrix, or of the matrices of experts.
    Products(&'a [WeightRef]),
}

/// The weights that can be added to, by the names of their tensors.
struct Targets<'a> {
    lookups: HashMap<&'a str, WeightRef>,
    products: HashMap<&'a str, Vec<WeightRef>>,
}

impl<'a> Targets<'a> {
    fn new(program: &'a Program) -> Self {
        let mut targets = Targets { lookups: HashMap::new(), products: HashMap::new() };
        for step in program.segments.iter().flatten() {
            match step {
                Step::Embed(step) => {
                    targets.lookups.insert(program.weight(step.table).name(), step.table);
                }
                Step::Linear(step) => {
                    step.outputs.iter().for_each(|out| targets.add_product(program, out.weight));
                }
                Step::Moe(step) => {
                    let experts = [Some(step.experts.up), Some(step.experts.down)];
                    let weights = experts.into_iter().chain([step.experts.gate, Some(step.router)]);
                    weights.flatten().for_each(|weight| targets.add_product(program, weight));
                }
                _ => {}
            }
        }
        targets
    }

    fn add_product(&mut self, program: &'a Program, weight: WeightRef) {
        let weights = self.products.entry(program.weight(weight).name()).or_default();
        if !weights.contains(&weight) {
            weights.push(weight);
        }
    }

    /// An embedding that serves as output matrix too is only adapted where it is looked
    /// up, as it was in training.
    fn of(&self, name: &str) -> Result<Target<'_>> {
        if let Some(weight) = self.lookups.get(name) {
            return Ok(Target::Lookup(*weight));
        }
        if let Some(weights) = self.products.get(name) {
            return Ok(Target::Products(weights));
        }
        let supported = "embedding tables and the matrices that rows are multiplied with";
        Err(Error::unsupported(name, "an adapter for this tensor", supported))
    }
}
