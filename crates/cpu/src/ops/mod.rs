//! One file per kind of operation; what several of them use is in `quantize`, `row` and `low_rank`.

pub(crate) mod attend;
pub(crate) mod head_linear;
pub(crate) mod linear;
mod low_rank;
pub(crate) mod mix;
pub(crate) mod moe;
mod quantize;
pub(crate) mod recurrent;
pub(crate) mod rope;
mod row;
pub(crate) mod rows;
