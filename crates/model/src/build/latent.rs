//! Multi-head latent attention (arXiv 2405.04434), in its absorbed form: one
//! key per position, the latent and a part that rotates, serves all heads, and
//! each head has matrices that bring its query into the latent and its result
//! out of it.

use realm_ir::{HeadLinear, Linear, NormKind, RopeStore, Slot, Step, WeightRef};

use super::{LayerBuilder, LayerSlots};
use crate::derived::{gather, transpose_heads};
use crate::error::Result;
use crate::hyperparameters::{LatentHyperparameters, LayerHyperparameters};

impl LayerBuilder<'_> {
    pub(super) fn latent_attention(
        &mut self,
        index: usize,
        kv_layer: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        let LayerSlots { q, k, v, mixed, .. } = self.slots;
        let numbers = self.numbers;
        let latent = numbers.latent.expect("checked by the caller");
        let rotating = numbers.rope_dimension_count;
        let embedding = numbers.embedding_length;
        let name = |part: &str| format!("blk.{index}.{part}");

        let own_q = self.latent_queries(index, layer, input, &latent)?;
        let n_cached = latent.kv_rank + rotating;
        let output = self.linear(&name("attn_kv_a_mqa"), &[embedding, n_cached], k)?;
        self.builder.push(Step::Linear(Linear { input, outputs: vec![output] }));
        let groups = (1, latent.kv_rank);
        self.norm_of(&name("attn_kv_a_norm"), k, k, NormKind::Rms, groups, &[latent.kv_rank])?;

        let plain = latent.key_length - rotating;
        let (into_latent, out_of_latent) = self.latent_matrices(index, layer.n_heads, &latent)?;
        self.builder.push(Step::HeadLinear(HeadLinear {
            input: own_q,
            out: q,
            weight: into_latent,
            n_heads: layer.n_heads,
            in_width: plain,
            out_width: latent.kv_rank,
            rest: rotating,
        }));
        let (n_heads, rope) = (layer.n_heads, self.rope(layer));
        let temperature = self.temperature(layer);
        let store = RopeStore { q, k, v, kv_layer, n_heads, head_norm: None, rope, temperature };
        self.builder.push(Step::RopeStore(store));
        self.attend(index, kv_layer, layer)?;

        let width = layer.n_heads * latent.value_length;
        let result = self.builder.batch_slot(width);
        self.builder.push(Step::HeadLinear(HeadLinear {
            input: mixed,
            out: result,
            weight: out_of_latent,
            n_heads: layer.n_heads,
            in_width: latent.kv_rank,
            out_width: latent.value_length,
            rest: 0,
        }));
        let output = self.linear(&name("attn_output"), &[width, embedding], result)?;
        self.residual(index, result, output, "post_attention_norm")
    }

    /// Each head's matrices into the latent `[plain key, latent, heads]` and out of it
    /// `[latent, value, heads]`.
    fn latent_matrices(
        &mut self,
        index: usize,
        n_heads: usize,
        latent: &LatentHyperparameters,
    ) -> Result<(WeightRef, WeightRef)> {
        let (rank, value) = (latent.kv_rank, latent.value_length);
        let plain = latent.key_length - latent.rotating;
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        if self.builder.contains(&name("attn_k_b")) {
            let into = self.builder.weight(&name("attn_k_b"), &[plain, rank, n_heads])?;
            return Ok((into, self.builder.weight(&name("attn_v_b"), &[rank, value, n_heads])?));
        }
        // Older files hold both as one: of each head, rows of the plain key, then of the
        // value. The former have to be transposed, so they are unpacked where they are
        // uploaded.
        let head_rows = plain + value;
        let joint = self.builder.tensor(&name("attn_kv_b"), &[rank, n_heads * head_rows])?;
        let keys = transpose_heads(&name("attn_k_b"), &joint, head_rows, plain)?;
        let heads = (0..n_heads).map(|head| head * head_rows);
        let rows: Vec<_> = heads.map(|first| first + plain..first + head_rows).collect();
        let shape = [rank, value, n_heads];
        let values = gather(&name("attn_v_b"), &shape, &joint, &rows)?;
        Ok((self.builder.add(keys), self.builder.add(values)))
    }

    /// Queries before they enter the latent, by way of their own latent in the
    /// large models.
    fn latent_queries(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
        input: Slot,
        latent: &LatentHyperparameters,
    ) -> Result<Slot> {
        let width = layer.n_heads * latent.key_length;
        let embedding = self.numbers.embedding_length;
        let own_q = self.builder.batch_slot(width);
        let Some(rank) = latent.q_rank else {
            let output = self.linear(&format!("blk.{index}.attn_q"), &[embedding, width], own_q)?;
            self.builder.push(Step::Linear(Linear { input, outputs: vec![output] }));
            return Ok(own_q);
        };
        let compressed = self.builder.batch_slot(rank);
        let output =
            self.linear(&format!("blk.{index}.attn_q_a"), &[embedding, rank], compressed)?;
        self.builder.push(Step::Linear(Linear { input, outputs: vec![output] }));
        let name = format!("blk.{index}.attn_q_a_norm");
        self.norm_of(&name, compressed, compressed, NormKind::Rms, (1, rank), &[rank])?;
        let output = self.linear(&format!("blk.{index}.attn_q_b"), &[rank, width], own_q)?;
        self.builder.push(Step::Linear(Linear { input: compressed, outputs: vec![output] }));
        Ok(own_q)
    }
}
