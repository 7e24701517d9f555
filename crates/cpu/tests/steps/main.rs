//! Each step alone, with the options that dense decoders do not use, against the oracle at
//! every level; and a row alone against the same row among others.

mod attention;
mod bench;
mod experts;
mod recurrent;
mod rows;
