//! Writes the tiny Gemma 3n file and the token ids that go with it, for llama.cpp to run:
//! `cargo run -p realm-testkit --example write_gemma3n -- FOLDER`.

use std::path::PathBuf;

use realm_testkit::gemma3n;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder to write to"));
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("gemma3n.gguf"), gemma3n::file())?;
    std::fs::write(folder.join("tokens.json"), format!("{:?}", gemma3n::PROMPT))
}
