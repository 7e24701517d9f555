//! How large a KV cache becomes.

use realm_ir::{KvLayer, KvLayout, KvType};

use crate::error::{Error, Result};
use crate::options::LoadOptions;

/// A cache below this many bytes is kept in f32 unless somebody says otherwise.
const F32_CACHE_BYTES: usize = 64 << 20;

/// Longest context that can be asked for.
const MAX_CONTEXT_LENGTH: usize = 1 << 24;

/// Most sequences that can be asked for.
const MAX_SEQUENCES: usize = 4096;

/// How many sequences there are to be at full length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences {
    pub(crate) context_length: usize,
    pub(crate) n: usize,
}

/// The context length to load with. `trained` is what the file says.
pub(crate) fn context_length(options: &LoadOptions, trained: Option<usize>) -> Result<usize> {
    let context_length = match options.context_length {
        0 => trained
            .unwrap_or(LoadOptions::DEFAULT_CONTEXT_LENGTH)
            .clamp(1, LoadOptions::DEFAULT_CONTEXT_LENGTH),
        asked => asked,
    };
    if context_length > MAX_CONTEXT_LENGTH {
        return Err(Error::invalid(format!(
            "contextLength is {context_length}, expected at most {MAX_CONTEXT_LENGTH}"
        )));
    }
    Ok(context_length)
}

/// Options for an encoder: keys and values live for one batch, so rounding them
/// would save nothing that lasts.
pub(crate) fn exact(options: &LoadOptions) -> LoadOptions {
    LoadOptions { kv_type: options.kv_type.or(Some(KvType::F32)), ..options.clone() }
}

/// The sequences that are to be at full length at once.
///
/// # Errors
/// `INVALID_ARGUMENT` for more than there may be.
pub(crate) fn max_sequences(options: &LoadOptions) -> Result<usize> {
    let max_sequences = match options.max_sequences {
        0 => LoadOptions::DEFAULT_MAX_SEQUENCES,
        asked => asked,
    };
    if max_sequences > MAX_SEQUENCES {
        return Err(Error::invalid(format!(
            "maxSequences is {max_sequences}, expected at most {MAX_SEQUENCES}"
        )));
    }
    Ok(max_sequences)
}

/// Settles the sizes of the cache for `layers` in pages of `page_tokens`.
///
/// # Errors
/// `OUT_OF_MEMORY` for sizes that cannot be counted.
pub(crate) fn layout(
    options: &LoadOptions,
    sequences: Sequences,
    page_tokens: usize,
    layers: Vec<KvLayer>,
) -> Result<KvLayout> {
    let Sequences { context_length, n } = sequences;
    // Where nothing is kept per position there is nothing to be divided.
    let page_tokens = if layers.is_empty() { context_length.max(1) } else { page_tokens };
    let n_pages = context_length.div_ceil(page_tokens) * n;
    let bytes = |ty: KvType| {
        let position =
            layers.iter().try_fold(0usize, |sum, layer| sum.checked_add(layer.bytes(ty)?))?;
        position
            .checked_mul(page_tokens)?
            .checked_mul(n_pages)
            .filter(|bytes| *bytes <= isize::MAX as usize)
    };
    let ty = options.kv_type.unwrap_or(match bytes(KvType::F32) {
        Some(bytes) if bytes < F32_CACHE_BYTES => KvType::F32,
        _ => KvType::F16,
    });
    if bytes(ty).is_none() {
        return Err(Error::OutOfMemory {
            message: format!(
                "a KV cache for {n} sequences of {context_length} tokens does not fit in memory; \
                 load with a smaller contextLength or maxSequences"
            ),
        });
    }
    Ok(KvLayout { layers, page_tokens, n_pages, ty })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: KvLayer = KvLayer { n_kv_heads: 8, key_width: 64, value_width: 64 };

    #[test]
    fn the_default_context_is_what_the_file_says_but_not_too_long() {
        let context = |asked, trained| {
            let options = LoadOptions { context_length: asked, ..LoadOptions::default() };
            context_length(&options, trained).unwrap()
        };
        assert_eq!(context(0, Some(512)), 512);
        assert_eq!(context(0, Some(131_072)), 4096);
        assert_eq!(context(0, None), 4096);
        assert_eq!(context(10_000, Some(512)), 10_000);
    }

    const PAGE_TOKENS: usize = 32;

    fn layout_of(
        options: &LoadOptions,
        context_length: usize,
        layers: Vec<KvLayer>,
    ) -> Result<KvLayout> {
        let sequences = Sequences { context_length, n: max_sequences(options)? };
        layout(options, sequences, PAGE_TOKENS, layers)
    }

    fn bytes(layout: &KvLayout) -> usize {
        layout.page_bytes() * layout.n_pages
    }

    #[test]
    fn a_small_cache_is_f32_and_a_large_one_f16_unless_asked() {
        // 8 heads of 128 values in f32: 4096 bytes per position and layer.
        let layout_with = |n_layers, kv_type| {
            let options = LoadOptions { kv_type, ..LoadOptions::default() };
            layout_of(&options, 4096, vec![LAYER; n_layers]).unwrap()
        };
        assert_eq!(layout_with(1, None).ty, KvType::F16, "64 MiB in f32");
        assert_eq!(bytes(&layout_with(1, Some(KvType::F32))), 64 << 20);
        assert_eq!(bytes(&layout_with(1, None)), 32 << 20);
        let q8_0 = bytes(&layout_with(1, Some(KvType::Q8_0)));
        assert_eq!(q8_0, (16 << 20) / 32 * 34, "a byte per value, two per 32 for their scale");
        let options = LoadOptions { max_sequences: 1, ..LoadOptions::default() };
        let small = layout_of(&options, 4096, vec![LAYER; 2]).unwrap();
        assert_eq!((small.ty, bytes(&small)), (KvType::F32, 32 << 20));
    }

    #[test]
    fn every_sequence_has_pages_for_its_whole_context() {
        let options = LoadOptions { max_sequences: 3, ..LoadOptions::default() };
        let layout = layout_of(&options, 33, vec![LAYER]).unwrap();
        assert_eq!(layout.n_pages, 6, "two pages of 32 each");
    }

    #[test]
    fn a_model_that_keeps_nothing_per_position_has_a_page_per_sequence_however_long() {
        let options = LoadOptions { max_sequences: 4096, ..LoadOptions::default() };
        let layout = layout_of(&options, MAX_CONTEXT_LENGTH, Vec::new()).unwrap();
        assert_eq!((layout.n_pages, layout.page_tokens), (4096, MAX_CONTEXT_LENGTH));
    }

    #[test]
    fn sizes_from_a_hostile_file_are_an_error_and_no_overflow() {
        let layer = KvLayer { n_kv_heads: usize::MAX / 2, key_width: 64, value_width: 64 };
        let error = layout_of(&LoadOptions::default(), 4096, vec![layer]).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        let options = LoadOptions { context_length: usize::MAX, ..LoadOptions::default() };
        assert!(context_length(&options, None).is_err());
        let options = LoadOptions { max_sequences: 4097, ..LoadOptions::default() };
        assert!(max_sequences(&options).is_err());
    }
}
