//! What steps name: slots, weights, functions of one value.

use std::any::Any;
use std::sync::Arc;

/// A buffer that steps read and write: index into [`crate::Program::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub usize);

/// A weight: index into [`crate::Program::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightRef(pub usize);

/// A weight as a backend keeps it: mapped bytes, a repacked copy, a device buffer.
pub type Uploaded = Arc<dyn Any + Send + Sync>;

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`: makes [`GatedAct`] a product of two slots.
    Identity,
    /// `x / (1 + exp(-x))`
    Silu,
    /// GELU by its tanh approximation (arXiv 1606.08415), computed in f32.
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)^2` (arXiv 2109.08668).
    ReluSquared,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x / (1 + exp(-1.702 x))` of `min(x, 7)`, times `1 + up` with `up` held to
    /// `-7..=7`: the gated activation of gpt-oss.
    ClampedSwiglu,
    /// `cap * tanh(x / cap)`: Gemma's cap on logits.
    Softcap(f32),
    /// `x` held to `-bound..=bound`.
    Clamp(f32),
    /// xIELU (arXiv 2411.13010): `positive x^2 + beta x` above 0, else
    /// `negative (exp(min(x, epsilon)) - 1 - x) + beta x`.
    Xielu {
        /// Factor on the square.
        positive: f32,
        /// Factor on the exponential.
        negative: f32,
        /// Factor on `x`.
        beta: f32,
        /// Bound of the exponent, close to 0.
        epsilon: f32,
    },
}
