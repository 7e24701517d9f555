//! Perplexity: how well a model predicts a text, and with which arithmetic.
//!
//! Kernels for quantised weights round activations to int8. [`exact`] is the same model
//! with its weights turned into F32 first, which no kernel rounds: the two perplexities
//! differ by what that rounding costs and nothing else.

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{Backend, KvType, Result};

use crate::program::{Call, Model, Size};

/// Short stories and small talk in simple English, with ChatML's special tokens: what the
/// bundled f16 model answered when it drew from all tokens at a temperature of 1.15, so that
/// much of it is less than likely.
pub const TEXT: &str = include_str!("../data/stories.txt");

/// The model with all of its weights as F32.
///
/// # Panics
/// When a weight has a type that cannot be dequantised.
pub fn exact(model: &Model) -> Model {
    let mut program = (*model.program).clone();
    for weight in &mut program.weights {
        let mut values = vec![0f32; weight.n_rows() * weight.row_len()];
        realm_quant::dequantize(weight.ty(), weight.bytes(), &mut values)
            .expect("the type of every weight has a definition");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        *weight = TensorData::from_vec(weight.name(), weight.shape(), TensorType::F32, bytes)
            .expect("a value for each place");
    }
    Model { program: Arc::new(program), kv_layers: model.kv_layers.clone() }
}

/// `exp` of the mean of `-ln p(token | those before it)` over a text that is read in windows
/// of `window` tokens, each by itself; keys and values are kept in F32.
///
/// The first token of a window has none before it and does not count.
///
/// # Errors
/// Those of opening a session and of running it.
///
/// # Panics
/// When there are fewer than two tokens, or ids beyond the vocabulary.
pub fn perplexity(
    model: &Model,
    backend: &dyn Backend,
    tokens: &[u32],
    window: usize,
) -> Result<f64> {
    let size = Size {
        page_tokens: window,
        n_pages: 1,
        kv_type: KvType::F32,
        max_rows: window,
        max_outputs: window,
        ..Size::default()
    };
    let mut session = model.open(backend, size)?;
    let n_vocab = model.program.width(model.program.logits);
    let (mut sum, mut n) = (0.0, 0);
    for tokens in tokens.chunks(window) {
        let logits = Call::one(tokens, 0, &[0]).logits(model, &mut *session)?;
        for (logits, next) in logits.chunks_exact(n_vocab).zip(&tokens[1..]) {
            sum -= log_probability(logits, *next as usize);
            n += 1;
        }
    }
    assert!(n > 0, "a text of one token predicts nothing");
    Ok((sum / f64::from(n)).exp())
}

/// `logits[token] - ln sum exp(logits)`
fn log_probability(logits: &[f32], token: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    f64::from(logits[token] - max) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_all_tokens_sum_to_one() {
        let logits = [0.0, 3.5, -2.0, 900.0, 901.0];
        let sum: f64 = (0..logits.len()).map(|token| log_probability(&logits, token).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        let equal = log_probability(&[7.0; 4], 2).exp();
        assert!((equal - 0.25).abs() < 1e-12, "{equal}");
    }
}
