//! What suits a backend, and what it cannot do.

use crate::config::{KvType, SessionConfig};
use crate::error::{Error, Result};

/// The sizes that suit a backend on its device, and the bounds of what it can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendLimits {
    /// Rows of a batch: enough to keep the device busy, few enough that a step is short.
    pub batch_rows: usize,
    /// Rows of a batch whose results are wanted: one for each answer that is under way.
    pub output_rows: usize,
    /// Rows that are not decoding in a batch that also decodes: few enough that the next tokens of
    /// the others do not wait long.
    pub rows_beside_decoding: usize,
    /// Positions per page of the KV cache.
    pub page_tokens: usize,
    /// Most rows of a batch, and most output rows, that can be run at all.
    pub most_rows: usize,
    /// Most values of a head that attention can keep.
    pub most_head_width: usize,
    /// What keys and values can be stored as.
    pub kv_types: &'static [KvType],
}

impl BackendLimits {
    /// That a session of these sizes can be opened on the backend called `backend`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the first that is beyond a bound, and the bound.
    pub fn check(&self, backend: &'static str, config: &SessionConfig) -> Result<()> {
        let refuse = |what: String| Err(Error::Unsupported { what, backend });
        let rows = config.max_rows.max(config.max_outputs);
        if rows > self.most_rows {
            return refuse(format!("a batch of {rows} rows (at most {})", self.most_rows));
        }
        let widths = config.kv.layers.iter().map(|layer| layer.key_width.max(layer.value_width));
        let width = widths.max().unwrap_or(0);
        if width > self.most_head_width {
            let most = self.most_head_width;
            return refuse(format!("attention with heads of {width} values (at most {most})"));
        }
        let ty = config.kv.ty;
        if !self.kv_types.contains(&ty) {
            let known: Vec<_> = self.kv_types.iter().map(|ty| ty.as_str()).collect();
            let (ty, known) = (ty.as_str(), known.join(", "));
            return refuse(format!("a KV cache of {ty} (there are: {known})"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KvLayer, KvLayout, StateLayout, WeightLayout};

    const LIMITS: BackendLimits = BackendLimits {
        batch_rows: 8,
        output_rows: 2,
        rows_beside_decoding: 4,
        page_tokens: 4,
        most_rows: 16,
        most_head_width: 64,
        kv_types: &[KvType::F32, KvType::F16],
    };

    fn config(ty: KvType, value_width: usize, max_rows: usize) -> SessionConfig {
        let layer = KvLayer { n_kv_heads: 1, key_width: 32, value_width };
        SessionConfig {
            kv: KvLayout { layers: vec![layer], page_tokens: 4, n_pages: 2, ty },
            states: StateLayout::default(),
            max_rows,
            max_outputs: 2,
            layout: WeightLayout::Mapped,
        }
    }

    #[test]
    fn what_is_within_the_bounds_is_taken_and_each_thing_beyond_is_named_with_its_bound() {
        LIMITS.check("toy", &config(KvType::F16, 64, 16)).unwrap();
        let refusals = [
            (config(KvType::Q8_0, 64, 16), "KV cache of q8_0 (there are: f32, f16)"),
            (config(KvType::F16, 65, 16), "heads of 65 values (at most 64)"),
            (config(KvType::F16, 64, 17), "17 rows (at most 16)"),
        ];
        for (config, words) in refusals {
            let message = LIMITS.check("toy", &config).unwrap_err().to_string();
            assert!(message.contains(words) && message.contains("toy"), "{message}");
        }
    }
}
