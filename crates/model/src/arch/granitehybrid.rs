//! Granite 4: Mamba 2's scans, attention in some layers, experts in the larger sizes.

use super::granitemoe;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "granitehybrid", recurrent: Recurrent::Mamba2, ..granitemoe::RECIPE };
