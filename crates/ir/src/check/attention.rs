//! Rotation, the KV cache and attention.

use super::operands::Checker;
use crate::error::Result;
use crate::step::{Attend, Rope, RopeSpec, RopeStore};

impl Checker<'_> {
    pub(super) fn rope_store(&mut self, step: &RopeStore) -> Result<()> {
        let RopeStore { q, k, v, kv_layer, n_heads, .. } = *step;
        self.are_of_batch(&[("queries", q), ("keys", k), ("values", v)])?;
        self.is_none_of("queries", q, &[k, v])?;
        let layer = self.kv_layer(kv_layer)?;
        self.divides("query heads", n_heads, layer.n_kv_heads)?;
        let (key, value) = (layer.key_width, layer.value_width);
        self.reads("queries", q, self.product("queries", [n_heads, key])?)?;
        self.reads("keys", k, self.product("keys", [layer.n_kv_heads, key])?)?;
        self.reads("values", v, self.product("values", [layer.n_kv_heads, value])?)?;
        if k == v && (layer.n_kv_heads > 1 || value > key) {
            let found = format!("{} heads of {key} as values of {value}", layer.n_kv_heads);
            let expected = "a single head that is as wide as its value";
            return Err(self.refuse("keys that are values too", found, expected));
        }
        if let Some(norm) = &step.head_norm {
            self.vector("factors of a query head", norm.q_weight, key)?;
            self.vector("factors of a key head", norm.k_weight, key)?;
            self.is_positive("epsilon", norm.epsilon)?;
        }
        if let Some(rope) = &step.rope {
            self.rotation(rope, key)?;
        }
        if let Some(temperature) = &step.temperature {
            self.is_finite("growth of queries", temperature.scale)?;
            if temperature.length == 0 {
                return Err(self.refuse("positions of one factor on queries", 0, "1 or more"));
            }
        }
        self.stores(kv_layer)?;
        self.forget(k);
        Ok(())
    }

    pub(super) fn rope(&mut self, step: &Rope) -> Result<()> {
        self.are_of_batch(&[("heads", step.heads)])?;
        let n = self.product("heads", [step.n_heads, step.head_width])?;
        self.reads("heads", step.heads, n)?;
        self.rotation(&step.rope, step.head_width)
    }

    /// That what turns is within a head.
    fn rotation(&self, rope: &RopeSpec, head_width: usize) -> Result<()> {
        let n_dims = self.product("values that turn", [rope.inverse_frequencies.len(), 2])?;
        let end = self.sum("values that turn", [rope.offset, n_dims])?;
        if end > head_width {
            let found = format!("{n_dims} behind {} others", rope.offset);
            let expected = format!("at most the {head_width} of a head");
            return Err(self.refuse("values that turn", found, expected));
        }
        self.is_finite("factor on sine and cosine", rope.magnitude)?;
        let mut frequencies = rope.inverse_frequencies.iter();
        frequencies.try_for_each(|frequency| self.is_finite("radians per position", *frequency))
    }

    pub(super) fn attend(&mut self, step: &Attend) -> Result<()> {
        let Attend { q, out, kv_layer, n_heads, .. } = *step;
        self.are_of_batch(&[("queries", q), ("result", out)])?;
        self.is_none_of("result", out, &[q])?;
        let layer = self.kv_layer(kv_layer)?;
        self.is_stored(kv_layer)?;
        self.divides("query heads", n_heads, layer.n_kv_heads)?;
        self.reads("queries", q, self.product("queries", [n_heads, layer.key_width])?)?;
        self.is_finite("factor on scores", step.scale)?;
        if step.window == Some(0) {
            return Err(self.refuse("window", 0, "1 position or more"));
        }
        step.softcap.map_or(Ok(()), |cap| self.is_positive("cap on scores", cap))?;
        step.alibi_max_bias.map_or(Ok(()), |bias| self.is_positive("largest slope", bias))?;
        self.optional_vector("sinks", step.sinks, n_heads)?;
        let n = self.product("values of all heads", [n_heads, layer.value_width])?;
        self.writes("result", out, n)
    }
}
