//! What a session is opened for: its KV cache, its recurrent states, its sizes.

use crate::memory::bytes_of;

/// Storage of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Four bytes per value: the reference.
    F32,
    /// Two bytes per value; moves logits by up to 0.1.
    F16,
    /// int8 with one f16 scale per [`KvType::BLOCK_LEN`] values of a head, as GGUF's Q8_0;
    /// a quarter of f32.
    Q8_0,
}

impl KvType {
    /// Values of a head that share a scale, the last ones fewer; where there are scales.
    pub const BLOCK_LEN: usize = 32;

    /// Bytes of one value, its share of a scale not counted.
    pub fn bytes(self) -> usize {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::Q8_0 => 1,
        }
    }

    /// Bytes of `width` values of a head with their scales; `None` on overflow.
    pub fn bytes_of(self, width: usize) -> Option<usize> {
        let scales = match self {
            KvType::F32 | KvType::F16 => 0,
            KvType::Q8_0 => 2 * width.div_ceil(Self::BLOCK_LEN),
        };
        width.checked_mul(self.bytes())?.checked_add(scales)
    }

    /// Name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }
}

/// What one layer keeps per position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayer {
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per key head.
    pub key_width: usize,
    /// Values per value head.
    pub value_width: usize,
}

impl KvLayer {
    /// Bytes per position, keys and values together; `None` on overflow.
    pub fn bytes(&self, ty: KvType) -> Option<usize> {
        let head = ty.bytes_of(self.key_width)?.checked_add(ty.bytes_of(self.value_width)?)?;
        self.n_kv_heads.checked_mul(head)
    }

    /// Values per position, keys and values together.
    pub fn width(&self) -> usize {
        self.n_kv_heads * (self.key_width + self.value_width)
    }
}

/// Shape of a paged KV cache. A page holds `page_tokens` positions of all layers.
#[derive(Clone, Debug)]
pub struct KvLayout {
    /// One entry per layer that attends.
    pub layers: Vec<KvLayer>,
    /// Positions per page.
    pub page_tokens: usize,
    /// Pages in the cache.
    pub n_pages: usize,
    /// Storage of the values.
    pub ty: KvType,
}

impl KvLayout {
    /// Bytes of one page over all layers.
    pub fn page_bytes(&self) -> usize {
        let bytes = self.layers.iter().map(|layer| layer.bytes(self.ty).expect("fits in memory"));
        bytes.sum::<usize>() * self.page_tokens
    }
}

/// Shape of the recurrent states: one per sequence, f32.
#[derive(Clone, Debug, Default)]
pub struct StateLayout {
    /// Values of each recurrent step, in the order of their numbers.
    pub widths: Vec<usize>,
    /// States there are.
    pub n_states: usize,
}

impl StateLayout {
    /// Bytes of all states.
    pub fn bytes(&self) -> u64 {
        let state = self.widths.iter().map(|width| bytes_of(*width, 4));
        let state = state.fold(0, u64::saturating_add);
        state.saturating_mul(self.n_states as u64)
    }
}

/// How a backend keeps matrices that it can read in more than one layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightLayout {
    /// Packed where the copy finds room in memory, mapped otherwise.
    #[default]
    Auto,
    /// As the file has them: shared by all who map it, nothing copied.
    Mapped,
    /// A copy in the order in which the kernels read.
    Packed,
}

impl WeightLayout {
    /// Name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            WeightLayout::Auto => "auto",
            WeightLayout::Mapped => "mapped",
            WeightLayout::Packed => "packed",
        }
    }
}

/// What a session is opened for.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The KV cache.
    pub kv: KvLayout,
    /// The recurrent states.
    pub states: StateLayout,
    /// Most rows of one batch.
    pub max_rows: usize,
    /// Most output rows of one batch.
    pub max_outputs: usize,
    /// Layout of the matrices, for backends that have a choice. [`crate::Backend::memory`] decides
    /// what [`WeightLayout::Auto`] is; a session takes it for [`WeightLayout::Mapped`].
    pub layout: WeightLayout,
}
