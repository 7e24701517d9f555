//! One file per kind of operation.

pub(crate) mod attend;
pub(crate) mod head_linear;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod mix;
pub(crate) mod moe;
pub(crate) mod recurrent;
pub(crate) mod rope;
pub(crate) mod rows;
