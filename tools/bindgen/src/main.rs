//! `realm-bindgen INPUT.wasm FOLDER`: writes `realm.js` and `realm_bg.wasm`, for
//! modules of browsers, into a folder.

mod order;

use std::path::PathBuf;

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (input, folder) = paths.next().zip(paths.next()).context("usage: INPUT.wasm FOLDER")?;
    Bindgen::new()
        .input_path(input)
        .web(true)?
        .omit_default_module_path(true)
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .out_name("realm")
        .generate(&folder)?;
    let module = folder.join("realm_bg.wasm");
    let bytes = std::fs::read(&module)?;
    std::fs::write(&module, order::reorder(&bytes)?)?;
    Ok(())
}
