//! Other widths than those that the groups of tensors are written with.

/// Which widths a family's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Widths {
    /// Those of [`super::tensors`].
    Usual,
    /// Six heads of the same width instead of four, and all other widths by half larger.
    SixHeads,
    /// Widths that no vector register divides: embedding 56, heads of 14, feed-forward
    /// 101, experts of 27, vocabulary 37.
    Uneven,
}

impl Widths {
    /// The keys that say so, beside those the family has.
    pub(super) fn keys(self) -> &'static [(&'static str, u32)] {
        match self {
            Widths::Usual => &[],
            Widths::SixHeads => &[
                ("embedding_length", 96),
                ("feed_forward_length", 144),
                ("attention.head_count", 6),
                ("attention.head_count_kv", 6),
            ],
            Widths::Uneven => &[
                ("embedding_length", 56),
                ("feed_forward_length", 101),
                ("attention.key_length", 14),
                ("attention.value_length", 14),
                ("rope.dimension_count", 14),
                ("expert_feed_forward_length", 27),
                ("vocab_size", 37),
            ],
        }
    }

    /// The shape of a tensor that usually has `shape`.
    pub(super) fn shape(self, name: &str, shape: &[usize]) -> Vec<usize> {
        let is_part_of = |part: &str| name.contains(part);
        let uneven = |width: usize| match width {
            64 => 56,
            16 => 14,
            8 => 7,
            32 if is_part_of("exps") || is_part_of("shexp") => 27,
            32 if matches!(name, "token_embd.weight" | "output.weight") => 37,
            32 => 28,
            96 if is_part_of("ffn") => 101,
            192 if is_part_of("ffn") => 202,
            // Rows for six, eight and twelve heads.
            96 => 84,
            128 => 112,
            192 => 168,
            other => other,
        };
        match self {
            Widths::Usual => shape.to_vec(),
            Widths::SixHeads => {
                shape.iter().map(|n| if *n >= 64 { n + n / 2 } else { *n }).collect()
            }
            Widths::Uneven => shape.iter().map(|width| uneven(*width)).collect(),
        }
    }
}
