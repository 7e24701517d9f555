//! How large the buffers of a session are, and how keys and values are split among them: known
//! before any of them is made.

use std::ops::Range;

use realm_ir::{KvLayer, KvLayout, KvType, Program, Result, SessionConfig, SlotInfo};

use crate::gpu::{LOWER_ROWS, too_large, word_bytes};
use crate::plan::max_rows;

/// Values of one key or value head are stored in whole quads, the last filled up with zeros.
pub(crate) const QUAD: usize = 4;

/// Bytes of a session's buffers.
pub(crate) struct Sizes {
    /// Of each slot.
    pub slots: Vec<u64>,
    /// Of each layer of the cache the parts that its heads lie in.
    pub kv: Vec<Vec<KvPart>>,
    /// Of one state of each recurrent step.
    pub state_bytes: Vec<u64>,
}

/// Key and value heads that lie in a buffer of their own, in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KvPart {
    /// Which heads of the layer.
    pub heads: Range<usize>,
    /// Bytes of one page of them.
    pub page_bytes: u64,
}

impl Sizes {
    /// Those of a program's session on a device with such a limit for a binding.
    ///
    /// # Errors
    /// `Unsupported` when a slot, the states of a recurrent step, or one key head with its values
    /// is larger than a binding, naming what to lower.
    pub fn of(program: &Program, config: &SessionConfig, max_binding_bytes: u64) -> Result<Self> {
        let slots: Vec<_> = program.slots.iter().map(|slot| slot_bytes(slot, config)).collect();
        for (slot, bytes) in program.slots.iter().zip(&slots) {
            if *bytes > max_binding_bytes {
                let n_rows = max_rows(slot.rows, config);
                let what = format!("activations of {n_rows} rows of {} values", slot.width);
                return Err(too_large(&what, *bytes, max_binding_bytes, Some(LOWER_ROWS)));
            }
        }
        let n_states = config.states.n_states;
        let state_bytes: Vec<_> =
            config.states.widths.iter().map(|width| word_bytes(&[*width])).collect();
        for bytes in state_bytes.iter().map(|bytes| bytes.saturating_mul(n_states as u64)) {
            if bytes > max_binding_bytes {
                let what = format!("recurrent states of {n_states} sequences");
                let remedy = "lower maxSequences";
                return Err(too_large(&what, bytes, max_binding_bytes, Some(remedy)));
            }
        }
        let layers = config.kv.layers.iter();
        let kv = layers.map(|layer| kv_parts(layer, &config.kv, max_binding_bytes));
        Ok(Sizes { slots, kv: kv.collect::<Result<_>>()?, state_bytes })
    }

    /// The largest page or state: what has to fit between two of them while it is copied.
    pub fn largest_copy(&self) -> u64 {
        let pages = self.kv.iter().flatten().map(|part| part.page_bytes);
        pages.chain(self.state_bytes.iter().copied()).max().unwrap_or(0)
    }
}

/// Bytes of a slot.
fn slot_bytes(slot: &SlotInfo, config: &SessionConfig) -> u64 {
    word_bytes(&[slot.width, max_rows(slot.rows, config)])
}

/// Bytes of one page of so many of a layer's heads.
fn page_bytes(layer: &KvLayer, n_heads: usize, layout: &KvLayout) -> u64 {
    let quads = layer.key_width.div_ceil(QUAD) + layer.value_width.div_ceil(QUAD);
    let value_bytes = layout.ty.bytes() as u64;
    [n_heads, quads, QUAD, layout.page_tokens]
        .iter()
        .fold(value_bytes, |bytes, dimension| bytes.saturating_mul(*dimension as u64))
}

/// A layer's heads in as few parts as bindings allow, of about as many heads each.
///
/// # Errors
/// `Unsupported` when one head is larger than a binding.
fn kv_parts(layer: &KvLayer, layout: &KvLayout, max_binding_bytes: u64) -> Result<Vec<KvPart>> {
    let part = |heads: Range<usize>| {
        let page_bytes = page_bytes(layer, heads.len(), layout);
        KvPart { heads, page_bytes }
    };
    let bytes = |n_heads| page_bytes(layer, n_heads, layout).saturating_mul(layout.n_pages as u64);
    let n_heads = layer.n_kv_heads;
    if bytes(n_heads) <= max_binding_bytes {
        return Ok(vec![part(0..n_heads)]);
    }
    let n_fitting = max_binding_bytes / bytes(1);
    if n_fitting == 0 {
        let n_positions = layout.n_pages.saturating_mul(layout.page_tokens);
        let what = format!("one head of a KV cache of {n_positions} positions");
        let remedy = match layout.ty {
            KvType::F32 => "lower contextLength or maxSequences, or set kvCacheType to f16",
            KvType::F16 | KvType::Q8_0 => "lower contextLength or maxSequences",
        };
        return Err(too_large(&what, bytes(1), max_binding_bytes, Some(remedy)));
    }
    let n_parts = (n_heads as u64).div_ceil(n_fitting) as usize;
    let part_heads = n_heads.div_ceil(n_parts);
    let firsts = (0..n_heads).step_by(part_heads);
    Ok(firsts.map(|first| part(first..n_heads.min(first + part_heads))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use realm_ir::{Rows, Slot, StateLayout, WeightLayout};

    const MIB: u64 = 1 << 20;

    /// 8 heads of 128 and 128 over 1024 pages of 32 positions: 128 MiB in f16.
    fn config() -> SessionConfig {
        let layers = vec![KvLayer { n_kv_heads: 8, key_width: 128, value_width: 128 }];
        SessionConfig {
            kv: KvLayout { layers, page_tokens: 32, n_pages: 1024, ty: KvType::F16 },
            states: StateLayout { widths: vec![1000], n_states: 64 },
            max_rows: 256,
            max_outputs: 32,
            layout: WeightLayout::Mapped,
        }
    }

    fn program() -> Program {
        let slots = [(4096, Rows::Batch), (262_144, Rows::Outputs)];
        Program {
            slots: slots.map(|(width, rows)| SlotInfo { width, rows }).into(),
            weights: vec![],
            segments: vec![],
            hidden: Slot(0),
            logits: Slot(1),
            carried: vec![],
        }
    }

    /// Of each part its first head and how many it has.
    fn heads(config: &SessionConfig, limit: u64) -> Vec<(usize, usize)> {
        let parts = kv_parts(&config.kv.layers[0], &config.kv, limit).unwrap();
        parts.into_iter().map(|part| (part.heads.start, part.heads.len())).collect()
    }

    fn refusal(config: &SessionConfig, limit: u64) -> String {
        Sizes::of(&program(), config, limit).err().expect("too large for a binding").to_string()
    }

    #[test]
    fn heads_are_split_only_where_a_binding_is_too_small_and_evenly() {
        let config = config();
        assert_eq!(heads(&config, 128 * MIB), [(0, 8)]);
        assert_eq!(heads(&config, 128 * MIB - 1), [(0, 4), (4, 4)]);
        assert_eq!(heads(&config, 64 * MIB - 1), [(0, 3), (3, 3), (6, 2)]);
        assert_eq!(heads(&config, 16 * MIB), [0, 1, 2, 3, 4, 5, 6, 7].map(|head| (head, 1)));
    }

    #[test]
    fn a_page_of_all_parts_is_a_page_of_the_layer() {
        let mut config = config();
        // Not whole quads: 7 are stored as 8, and 13 as 16.
        config.kv.layers[0] = KvLayer { n_kv_heads: 5, key_width: 7, value_width: 13 };
        let whole = 32 * 5 * (8 + 16) * 2;
        for limit in [u64::MAX, 1024 * whole / 2, 1024 * whole / 5] {
            let parts = kv_parts(&config.kv.layers[0], &config.kv, limit).unwrap();
            assert_eq!(parts.iter().map(|part| part.page_bytes).sum::<u64>(), whole, "{parts:?}");
            assert!(parts.iter().all(|part| 1024 * part.page_bytes <= limit), "{parts:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_lower() {
        let sizes = Sizes::of(&program(), &config(), 32 * MIB).unwrap();
        assert_eq!(sizes.slots, [4 * 4096 * 256, 32 * MIB]);
        assert_eq!(sizes.state_bytes, [4000]);

        let text = refusal(&config(), 32 * MIB - 1);
        assert!(text.contains("32 rows of 262144 values of 33554432 bytes"), "{text}");
        assert!(text.contains("33554431 at most; lower the rows of a batch"), "{text}");

        let mut recurrent = config();
        recurrent.states.widths.push(1 << 20);
        let text = refusal(&recurrent, 32 * MIB);
        assert!(text.contains("states of 64 sequences of 268435456 bytes"), "{text}");
        assert!(text.contains("lower maxSequences"), "{text}");

        let mut long = config();
        long.kv.n_pages *= 4;
        let text = refusal(&long, 32 * MIB);
        assert!(text.contains("one head of a KV cache of 131072 positions of 67108864"), "{text}");
        assert!(text.contains("lower contextLength or maxSequences)"), "{text}");
        // Latent attention has one head, which nothing divides.
        long.kv.layers[0] = KvLayer { n_kv_heads: 1, key_width: 576, value_width: 512 };
        let bytes = 131_072 * (576 + 512) * 2;
        assert_eq!(heads(&long, bytes), [(0, 1)]);
        assert!(refusal(&long, bytes - 1).contains("one head of a KV cache of 131072 positions"));
        long.kv.ty = KvType::F32;
        assert!(refusal(&long, 32 * MIB).contains("maxSequences, or set kvCacheType to f16"));
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_refused() {
        let mut endless = config();
        (endless.kv.n_pages, endless.kv.page_tokens) = (usize::MAX, usize::MAX);
        assert!(refusal(&endless, 32 * MIB).contains("KV cache"));
        let mut endless = config();
        endless.max_rows = usize::MAX;
        assert!(refusal(&endless, 32 * MIB).contains("activations"));
        let mut endless = config();
        (endless.states.widths, endless.states.n_states) = (vec![usize::MAX], usize::MAX);
        assert!(refusal(&endless, 32 * MIB).contains("recurrent states"));
    }
}
