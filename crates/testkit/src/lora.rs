//! Random LoRA adapters, and files of models that they have been merged into.

use realm_gguf::{Gguf, TensorData, TensorInfo, TensorType};

use crate::gguf_writer::GgufWriter;
use crate::oracle::dequantize;
use crate::random::{self, Random};

/// An adapter for a model.
#[derive(Clone, Debug)]
pub struct Lora {
    /// `general.architecture`
    pub architecture: String,
    /// `adapter.lora.alpha`
    pub alpha: f32,
    /// One for each tensor that it adds to.
    pub pairs: Vec<LoraPair>,
}

/// What is added to one tensor.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// Name of the model's tensor.
    pub name: String,
    /// `[in_width, rank]` or `[in_width, rank, n_experts]`; of the embedding `[rank, n_vocab]`.
    pub a: TensorData,
    /// `[rank, out_width]` or `[rank, out_width, n_experts]`.
    pub b: TensorData,
}

impl Lora {
    /// Pairs of this rank, stored as `ty`, for the tensors of `base` that `wanted` names.
    /// What they add is about a third as large as the tensors' values.
    ///
    /// # Panics
    /// When rows of `rank` values are not whole blocks of `ty`.
    pub fn random(
        base: &Gguf,
        seed: u64,
        rank: usize,
        ty: TensorType,
        wanted: impl Fn(&TensorInfo) -> bool,
    ) -> Self {
        let mut random = Random::new(seed);
        let mut pairs = Vec::new();
        for tensor in base.tensors().iter().filter(|tensor| wanted(tensor)) {
            let (width, n_rows) = (tensor.shape()[0], tensor.shape().get(1).copied().unwrap_or(1));
            let experts = tensor.shape().get(2..).unwrap_or(&[]);
            let name = tensor.name();
            let (a, deviation, b) = match name {
                "token_embd.weight" => ([rank, n_rows], 1.0, [rank, width]),
                _ => ([width, rank], 1.0 / (width as f32).sqrt(), [rank, n_rows]),
            };
            let mut tensor = |suffix: &str, shape: &[usize; 2], deviation: f32| {
                let shape = [shape, experts].concat();
                let name = format!("{name}.{suffix}");
                random::tensor(&mut random, &name, &shape, ty, deviation)
            };
            let a = tensor("lora_a", &a, deviation);
            let b = tensor("lora_b", &b, 0.3 / (rank as f32).sqrt());
            pairs.push(LoraPair { name: name.to_owned(), a, b });
        }
        let architecture = base.metadata().require_str("general.architecture");
        let architecture = architecture.expect("a model has an architecture").to_owned();
        Lora { architecture, alpha: rank as f32, pairs }
    }

    /// The adapter's metadata, and no tensors.
    pub fn header(&self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        writer
            .kv("general.type", "adapter")
            .kv("general.architecture", self.architecture.as_str())
            .kv("general.name", "random")
            .kv("adapter.type", "lora")
            .kv("adapter.lora.alpha", self.alpha);
        writer
    }

    /// The adapter's file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = self.header();
        for tensor in self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]) {
            writer.tensor(tensor.name(), tensor.shape(), tensor.ty(), tensor.bytes().to_vec());
        }
        writer.to_bytes()
    }

    /// Adds `scale` times the adapter to the tensors in the file of its model, which are F32.
    ///
    /// # Panics
    /// When a tensor is not there or not F32.
    pub fn merge_into(&self, file: &mut [u8], scale: f32) {
        let base = Gguf::from_bytes(file.to_vec()).expect("a sound file");
        for pair in &self.pairs {
            let tensor = base.tensors().iter().find(|tensor| tensor.name() == pair.name);
            let tensor = tensor.unwrap_or_else(|| panic!("{}: no such tensor", pair.name));
            assert_eq!(tensor.ty(), TensorType::F32, "{}", pair.name);
            let added = self.added(pair, tensor.shape());
            let values = file[tensor.offset() as usize..].chunks_exact_mut(4).zip(added);
            for (bytes, added) in values {
                let value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                let merged = f64::from(value) + f64::from(scale) * added;
                bytes.copy_from_slice(&(merged as f32).to_le_bytes());
            }
        }
    }

    /// What a pair adds, value by value in the order of the tensor.
    fn added(&self, pair: &LoraPair, shape: &[usize]) -> Vec<f64> {
        let (width, n_rows) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let (a, b) = (dequantize(&pair.a).unwrap(), dequantize(&pair.b).unwrap());
        let rank = b.width;
        let factor = f64::from(self.alpha) / rank as f64;
        let mut added = Vec::new();
        for expert in 0..shape.get(2).copied().unwrap_or(1) {
            for row in 0..n_rows {
                added.extend((0..width).map(|column| {
                    let products = (0..rank).map(|r| match pair.name.as_str() {
                        "token_embd.weight" => a.row(row)[r] * b.row(column)[r],
                        _ => a.row(expert * rank + r)[column] * b.row(expert * n_rows + row)[r],
                    });
                    factor * products.map(f64::from).sum::<f64>()
                }));
            }
        }
        added
    }
}
