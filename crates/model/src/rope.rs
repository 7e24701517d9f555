//! From metadata to one table of frequencies: every way of stretching a
//! rotation over a longer context ends as a frequency per pair and a magnitude.

use std::f64::consts::PI;
use std::sync::Arc;

use realm_gguf::Gguf;
use realm_ir::{RopeSpec, RopeStyle};

use crate::error::{Error, Result};
use crate::hyperparameters::{Hyperparameters, Keys};
use crate::recipe::{Recipe, WindowRope};

/// How a model's frequencies are stretched, `rope.scaling.type`.
enum Scaling {
    None,
    /// Positions divided by the factor (arXiv 2306.15595).
    Linear {
        factor: f64,
    },
    /// Low frequencies divided, high ones kept (arXiv 2309.00071).
    Yarn {
        factor: f64,
        original_context: f64,
        beta_fast: f64,
        beta_slow: f64,
    },
}

/// Builds the rotation of the layers without and with a window.
///
/// `context_length` is what this instance was loaded with: LongRoPE has one set
/// of factors up to the original context and another beyond.
pub(crate) fn rope_specs(
    gguf: &Gguf,
    recipe: &Recipe,
    numbers: &Hyperparameters,
    context_length: usize,
) -> Result<(RopeSpec, RopeSpec)> {
    let keys = Keys::new(gguf, recipe.name);
    let style = rope_style(&keys, recipe)?;
    let scaling = scaling(&keys)?;
    let n_pairs = numbers.rope_dimension_count / 2;
    let divisors = divisors(gguf, &keys, n_pairs, context_length)?;
    let base_frequencies = |base: f32, n_dims: usize| -> Vec<f64> {
        let exponent = |i: usize| -2.0 * i as f64 / n_dims as f64;
        (0..n_dims / 2).map(|i| f64::from(base).powf(exponent(i))).collect()
    };
    let spec = |frequencies: Vec<f64>, magnitude: f64| RopeSpec {
        style,
        inverse_frequencies: frequencies.iter().map(|f| *f as f32).collect::<Arc<[f32]>>(),
        magnitude: magnitude as f32,
        offset: numbers.latent.map_or(0, |latent| latent.kv_rank),
    };

    let mut frequencies = base_frequencies(numbers.rope_base, numbers.rope_dimension_count);
    if let Some(divisors) = divisors {
        frequencies.iter_mut().zip(divisors).for_each(|(f, divisor)| *f /= f64::from(divisor));
    }
    let stretch = scaling.apply(&mut frequencies, f64::from(numbers.rope_base));
    // Files with this key have the stretch's factor in their scores, or nowhere.
    let has_multiplier = keys.positive("rope.scaling.yarn_log_multiplier")?.is_some();
    let stretch = if recipe.yarn_log_multiplier && has_multiplier { 1.0 } else { stretch };
    let magnitude = stretch * keys.positive("rope.scaling.attn_factor")?.map_or(1.0, f64::from);
    let whole = spec(frequencies, magnitude);
    let own_base = |default: f32| -> Result<f32> {
        Ok(keys.positive("rope.freq_base_swa")?.unwrap_or(default))
    };
    let unscaled =
        |base: f32| spec(base_frequencies(base, numbers.window_rope_dimension_count), 1.0);
    let windowed = match recipe.window_rope {
        WindowRope::Same if numbers.window_rope_dimension_count != whole.n_dims() => {
            let found = numbers.window_rope_dimension_count;
            let expected = format!("{}, like the other layers of this family", whole.n_dims());
            return Err(Error::unsupported(keys.key("rope.dimension_count_swa"), found, expected));
        }
        WindowRope::Same => whole.clone(),
        WindowRope::Unscaled => unscaled(own_base(numbers.rope_base)?),
        WindowRope::OwnBase(default) => unscaled(own_base(default)?),
    };
    Ok((whole, windowed))
}

/// How values pair up. Files whose heads are divided into sections (for images; text has
/// one position for all of them) pair halves, whatever the family does without.
fn rope_style(keys: &Keys<'_>, recipe: &Recipe) -> Result<RopeStyle> {
    let sections = keys.metadata.u32_array(&keys.key("rope.dimension_sections"))?;
    match sections {
        Some(sections) if sections.iter().any(|width| *width > 0) => Ok(RopeStyle::Halves),
        _ => Ok(recipe.rope_style),
    }
}

fn scaling(keys: &Keys<'_>) -> Result<Scaling> {
    let type_key = keys.key("rope.scaling.type");
    let kind = keys.metadata.str(&type_key)?;
    let factor = match keys.positive("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        // The key of files older than `rope.scaling.factor`.
        None => keys.positive("rope.scale_linear")?,
    };
    let factor = f64::from(factor.unwrap_or(1.0));
    match kind {
        Some("none" | "longrope") => Ok(Scaling::None),
        None | Some("linear") if factor == 1.0 => Ok(Scaling::None),
        None | Some("linear") => Ok(Scaling::Linear { factor }),
        Some("yarn") => {
            let name = "rope.scaling.original_context_length";
            let original_context = f64::from(keys.metadata.require_u32(&keys.key(name))?.max(1));
            let or = |value: Option<f32>, default: f32| f64::from(value.unwrap_or(default));
            Ok(Scaling::Yarn {
                factor,
                original_context,
                beta_fast: or(keys.positive("rope.scaling.yarn_beta_fast")?, 32.0),
                beta_slow: or(keys.positive("rope.scaling.yarn_beta_slow")?, 1.0),
            })
        }
        Some(other) => Err(Error::unsupported(type_key, other, "none, linear, yarn, longrope")),
    }
}

impl Scaling {
    /// Stretches `frequencies` and returns the factor on sine and cosine.
    fn apply(&self, frequencies: &mut [f64], base: f64) -> f64 {
        match *self {
            Scaling::None => 1.0,
            Scaling::Linear { factor } => {
                frequencies.iter_mut().for_each(|f| *f /= factor);
                1.0
            }
            Scaling::Yarn { factor, original_context, beta_fast, beta_slow } => {
                let n_dims = 2.0 * frequencies.len() as f64;
                // The dimension that turns `rotations` times over the original context.
                let dimension = |rotations: f64| {
                    n_dims * (original_context / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln())
                };
                let low = dimension(beta_fast).floor().max(0.0);
                let high = dimension(beta_slow).ceil().min(n_dims - 1.0);
                for (i, frequency) in frequencies.iter_mut().enumerate() {
                    let ramp = (i as f64 - low) / (high - low).max(0.001);
                    let keep = 1.0 - ramp.clamp(0.0, 1.0);
                    *frequency = *frequency * keep + *frequency / factor * (1.0 - keep);
                }
                1.0 + 0.1 * factor.ln()
            }
        }
    }
}

/// Divisors of the frequencies that the file carries as a tensor: Llama 3.1's
/// `rope_freqs`, LongRoPE's `rope_factors_short` and `rope_factors_long`.
fn divisors(
    gguf: &Gguf,
    keys: &Keys<'_>,
    n_pairs: usize,
    context_length: usize,
) -> Result<Option<Vec<f32>>> {
    let original = keys.metadata.u32(&keys.key("rope.scaling.original_context_length"))?;
    let long = original.is_some_and(|original| context_length > original as usize);
    let longrope = if long { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
    let tensor = gguf.tensor(longrope).or_else(|| gguf.tensor("rope_freqs.weight"));
    let Some(tensor) = tensor else { return Ok(None) };
    if tensor.shape() != [n_pairs] {
        let expected = format!("[{n_pairs}], half of rope.dimension_count");
        return Err(Error::invalid(tensor.name(), format!("shape {:?}", tensor.shape()), expected));
    }
    let mut values = vec![0.0; n_pairs];
    realm_quant::dequantize(tensor.ty(), tensor.fetch()?.bytes(), &mut values)
        .map_err(|error| Error::unsupported(tensor.name(), tensor.ty(), error))?;
    if let Some(value) = values.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
        return Err(Error::invalid(tensor.name(), value, "positive finite values"));
    }
    Ok(Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frequencies of a 64-wide head with base 10000.
    fn plain() -> Vec<f64> {
        (0..32).map(|i| 10_000f64.powf(-f64::from(i) / 32.0)).collect()
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let yarn = Scaling::Yarn {
            factor: 4.0,
            original_context: 4096.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
        };
        let mut scaled = plain();
        let magnitude = yarn.apply(&mut scaled, 10_000.0);
        assert_eq!(scaled[0], plain()[0]);
        assert_eq!(scaled[31], plain()[31] / 4.0);
        assert!(scaled[15] < plain()[15] && scaled[15] > plain()[15] / 4.0);
        assert!((magnitude - 1.138_629_4).abs() < 1e-6);
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        let mut scaled = plain();
        assert_eq!(Scaling::Linear { factor: 8.0 }.apply(&mut scaled, 10_000.0), 1.0);
        assert!(scaled.iter().zip(plain()).all(|(scaled, plain)| *scaled == plain / 8.0));
    }
}
