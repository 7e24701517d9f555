//! Model files that JS reads, piece by piece.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use js_sys::Uint8Array;
use realm_gguf::ReadAt;
use wasm_bindgen::prelude::*;

use crate::args::items;
use crate::error::Result;

#[wasm_bindgen]
extern "C" {
    /// `ByteSource` in `ts/browser`.
    #[derive(Clone)]
    pub type ByteSource;

    #[wasm_bindgen(method, getter)]
    fn size(this: &ByteSource) -> f64;

    #[wasm_bindgen(method, catch)]
    fn read(this: &ByteSource, offset: f64, length: f64) -> Result<Uint8Array>;

    #[wasm_bindgen(method, catch)]
    fn close(this: &ByteSource) -> Result<()>;
}

/// JS objects stay on their thread, so a file knows its own by a number.
#[derive(Default)]
struct Sources {
    open: HashMap<u32, ByteSource>,
    next: u32,
}

thread_local! {
    static SOURCES: RefCell<Sources> = RefCell::default();
}

/// Bytes asked for at a time: what JS gives is copied once more.
const READ_BYTES: usize = 8 << 20;

/// A file behind a [`ByteSource`], which is closed with it.
struct JsFile {
    id: u32,
    n_bytes: u64,
}

/// The files of a model from an array of sources.
pub(crate) fn files(sources: &JsValue) -> Result<Vec<Arc<dyn ReadAt>>> {
    let open = |source: JsValue| -> Result<Arc<dyn ReadAt>> {
        let source: ByteSource = source.unchecked_into();
        let n_bytes = source.size() as u64;
        let id = SOURCES.with_borrow_mut(|sources| {
            let id = sources.next;
            sources.next += 1;
            sources.open.insert(id, source);
            id
        });
        Ok(Arc::new(JsFile { id, n_bytes }))
    };
    items(sources, "source")?.iter().map(open).collect()
}

impl ReadAt for JsFile {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), String> {
        let source = SOURCES.with_borrow(|sources| sources.open.get(&self.id).cloned());
        let source = source.ok_or("the file belongs to another thread")?;
        let mut offset = offset;
        for part in out.chunks_mut(READ_BYTES) {
            let bytes = source.read(offset as f64, part.len() as f64).map_err(words)?;
            if bytes.length() as usize != part.len() {
                let (found, wanted) = (bytes.length(), part.len());
                return Err(format!("{found} of {wanted} bytes read at byte {offset}"));
            }
            bytes.copy_to(part);
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl Drop for JsFile {
    fn drop(&mut self) {
        let source = SOURCES.with_borrow_mut(|sources| sources.open.remove(&self.id));
        if let Some(source) = source {
            // It can be closed or not; nothing depends on it.
            let _ = source.close();
        }
    }
}

/// What JS threw, in words.
fn words(error: JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}
