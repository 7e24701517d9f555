//! Jais 2: layer norms, biases and squared ReLU without a gate.

use super::nemotron;
use crate::recipe::*;

pub(super) const RECIPE: Recipe = Recipe { name: "jais2", ..nemotron::RECIPE };
