//! Megabytes a second that `encode` takes: `encode_speed vocab.gguf text.txt`.

use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use realm_gguf::Gguf;
use realm_tokenizer::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(vocabulary), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: encode_speed vocab.gguf text.txt".into());
    };
    let gguf = Gguf::open(vocabulary)?;
    let start = Instant::now();
    let tokenizer = Tokenizer::from_metadata(gguf.metadata())?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let text = fs::read_to_string(text)?;
    let mut out = io::stdout().lock();
    writeln!(out, "load: {load_ms:.0} ms, {} tokens", tokenizer.n_tokens())?;
    for run in 1..=5 {
        let start = Instant::now();
        let ids = tokenizer.encode(&text, EncodeOptions::default());
        let seconds = start.elapsed().as_secs_f64();
        let rate = text.len() as f64 / 1e6 / seconds;
        writeln!(out, "run {run}: {} ids, {rate:.1} MB/s", ids.len())?;
    }
    Ok(())
}
