//! Writes the shaders without their comments and indentation, which pages would download.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/shaders");
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or(io::ErrorKind::NotFound)?;
    write_short(Path::new("src/shaders"), &out.join("shaders"))
}

fn write_short(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            write_short(&path, &to)?;
        } else {
            fs::write(to, short(&fs::read_to_string(path)?))?;
        }
    }
    Ok(())
}

/// WGSL has no strings, so `//` begins a comment wherever it is.
fn short(shader: &str) -> String {
    let code = shader.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    code.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}
