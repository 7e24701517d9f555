//! Writes the file of every family, and the token ids that they are run on, to the
//! folder named: input of `benches/reference-logits.py`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use realm_testkit::families;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: write_families FOLDER")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("tokens.json"), format!("{:?}\n", families::PROMPT))?;
    for family in families::all() {
        fs::write(folder.join(format!("{}.gguf", family.name())), family.file())?;
    }
    Ok(())
}
