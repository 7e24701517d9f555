//! Mamba 2: selective scans of wide heads alone (arXiv 2405.21060).

use super::mamba;
use crate::recipe::*;

pub(super) const RECIPE: Recipe =
    Recipe { name: "mamba2", recurrent: Recurrent::Mamba2, ..mamba::RECIPE };
