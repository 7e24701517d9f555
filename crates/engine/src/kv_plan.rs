//! How large a KV cache becomes.

use realm_ir::{KvLayer, KvLayout, KvType};

use crate::error::{Error, Result};
use crate::options::LoadOptions;

/// Positions per page: a sequence wastes half a page on average, and attention
/// reads a page in one go.
pub(crate) const PAGE_TOKENS: usize = 32;

/// A cache below this many bytes is kept in f32 unless somebody says otherwise.
const F32_CACHE_BYTES: usize = 64 << 20;

/// Longest context that can be asked for.
const MAX_CONTEXT_LENGTH: usize = 1 << 24;

/// Most sequences that can be asked for.
const MAX_SEQUENCES: usize = 4096;

/// Sizes of a KV cache, everything settled.
#[derive(Clone, Debug)]
pub(crate) struct KvPlan {
    pub(crate) context_length: usize,
    pub(crate) max_sequences: usize,
    pub(crate) layout: KvLayout,
    /// Bytes of all pages.
    pub(crate) bytes: usize,
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

/// Settles the sizes of the cache for `layers`.
pub(crate) fn plan(
    options: &LoadOptions,
    context_length: usize,
    layers: Vec<KvLayer>,
) -> Result<KvPlan> {
    let max_sequences = match options.max_sequences {
        0 => LoadOptions::DEFAULT_MAX_SEQUENCES,
        asked => asked,
    };
    if max_sequences > MAX_SEQUENCES {
        return Err(Error::invalid(format!(
            "maxSequences is {max_sequences}, expected at most {MAX_SEQUENCES}"
        )));
    }
    let n_pages = context_length.div_ceil(PAGE_TOKENS) * max_sequences;
    let bytes = |ty: KvType| {
        let position =
            layers.iter().try_fold(0usize, |sum, layer| sum.checked_add(layer.bytes(ty)?))?;
        position
            .checked_mul(PAGE_TOKENS)?
            .checked_mul(n_pages)
            .filter(|bytes| *bytes <= isize::MAX as usize)
    };
    let ty = options.kv_type.unwrap_or(match bytes(KvType::F32) {
        Some(bytes) if bytes < F32_CACHE_BYTES => KvType::F32,
        _ => KvType::F16,
    });
    let Some(bytes) = bytes(ty) else {
        return Err(Error::OutOfMemory {
            message: format!(
                "a KV cache for {max_sequences} sequences of {context_length} tokens does not fit \
                 in memory; load with a smaller contextLength or maxSequences"
            ),
        });
    };
    let layout = KvLayout { layers, page_tokens: PAGE_TOKENS, n_pages, ty };
    Ok(KvPlan { context_length, max_sequences, layout, bytes })
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

    #[test]
    fn a_small_cache_is_f32_and_a_large_one_f16_unless_asked() {
        // 8 heads of 128 values in f32: 4096 bytes per position and layer.
        let plan_of = |n_layers, kv_type| {
            let options = LoadOptions { kv_type, ..LoadOptions::default() };
            plan(&options, 4096, vec![LAYER; n_layers]).unwrap()
        };
        assert_eq!(plan_of(1, None).layout.ty, KvType::F16, "64 MiB in f32");
        assert_eq!(plan_of(1, Some(KvType::F32)).bytes, 64 << 20);
        assert_eq!(plan_of(1, None).bytes, 32 << 20);
        let q8_0 = plan_of(1, Some(KvType::Q8_0)).bytes;
        assert_eq!(q8_0, (16 << 20) / 32 * 34, "a byte per value, two per 32 for their scale");
        let options = LoadOptions { max_sequences: 1, ..LoadOptions::default() };
        let small = plan(&options, 4096, vec![LAYER; 2]).unwrap();
        assert_eq!((small.layout.ty, small.bytes), (KvType::F32, 32 << 20));
    }

    #[test]
    fn every_sequence_has_pages_for_its_whole_context() {
        let options = LoadOptions { max_sequences: 3, ..LoadOptions::default() };
        let plan = plan(&options, 33, vec![LAYER]).unwrap();
        assert_eq!(plan.layout.n_pages, 6, "two pages of 32 each");
    }

    #[test]
    fn sizes_from_a_hostile_file_are_an_error_and_no_overflow() {
        let layer = KvLayer { n_kv_heads: usize::MAX / 2, key_width: 64, value_width: 64 };
        let error = plan(&LoadOptions::default(), 4096, vec![layer]).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        let options = LoadOptions { context_length: usize::MAX, ..LoadOptions::default() };
        assert!(context_length(&options, None).is_err());
    }
}
