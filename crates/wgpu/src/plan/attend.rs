//! Rotation, the KV cache and attention.

use bytemuck::cast_slice;
use realm_ir::{Attend, HeadNorm, KvLayer, Result, RopeSpec, RopeStore, RopeStyle, StepKind};

use super::{Dispatch, Planner, count, expect, flag, refuse};
use crate::kernel::{ATTEND, Constants, ROPE_STORE};
use crate::rope;

impl Planner<'_> {
    pub(super) fn rope_store(&mut self, step: &RopeStore) -> Result<Vec<Dispatch>> {
        let layer = self.kv_layout.layers[step.kv_layer];
        expect("queries of a rotation", self.width(step.q), step.n_heads * layer.key_width)?;
        expect("keys of a rotation", self.width(step.k), layer.n_kv_heads * layer.key_width)?;
        expect("values to store", self.width(step.v), layer.n_kv_heads * layer.value_width)?;
        let rope = step.rope.as_ref();
        if step.k == step.v || rope.is_some_and(|rope| rope.offset > 0) {
            return Err(refuse("latent attention".to_owned()));
        }
        if rope.is_some_and(|rope| rope.n_dims() > layer.key_width) {
            return Err(refuse(format!("a rotation wider than a head of {}", layer.key_width)));
        }
        if step.head_norm.as_ref().is_some_and(|norm| norm.after_rope) {
            return Err(refuse("a norm of heads after their rotation".to_owned()));
        }
        if step.temperature.is_some() {
            return Err(refuse("queries that grow with their position".to_owned()));
        }
        let mut constants = self.kv_constants(layer);
        constants.extend([
            ("n_heads", count(step.n_heads)),
            ("n_dims", count(rope.map_or(0, RopeSpec::n_dims))),
            ("interleaved", flag(rope.is_some_and(|r| r.style == RopeStyle::Interleaved))),
            ("has_norm", flag(step.head_norm.is_some())),
            ("epsilon", step.head_norm.as_ref().map_or(0.0, |norm| norm.epsilon.into())),
        ]);
        let angles = self.angles(rope)?;
        let norm = self.head_norm(step.head_norm.as_ref(), layer.key_width)?;
        let [q, k, v] = [step.q, step.k, step.v].map(|slot| &self.slots[slot.0]);
        let operands = [k, v, &angles, &norm, q, &self.kv[step.kv_layer]];
        let n_groups = step.n_heads + layer.n_kv_heads;
        Ok(vec![self.rowwise(&ROPE_STORE, &constants, &operands, n_groups, step.q)])
    }

    pub(super) fn attend(&mut self, step: &Attend) -> Result<Vec<Dispatch>> {
        if step.sinks.is_some() || step.alibi_max_bias.is_some() {
            return Err(refuse("attention with sinks or linear biases".to_owned()));
        }
        if step.window.is_some() && (step.chunked || !step.causal) {
            return Err(refuse("a window that does not end at the row".to_owned()));
        }
        let layer = self.kv_layout.layers[step.kv_layer];
        expect("queries of attention", self.width(step.q), step.n_heads * layer.key_width)?;
        expect("result of attention", self.width(step.out), step.n_heads * layer.value_width)?;
        let mut constants = self.kv_constants(layer);
        constants.extend([
            ("n_heads", count(step.n_heads)),
            ("scale", step.scale.into()),
            ("softcap", step.softcap.unwrap_or(0.0).into()),
            ("window", step.window.unwrap_or(0).into()),
            ("causal", flag(step.causal)),
        ]);
        let operands = [&self.slots[step.q.0], &self.kv[step.kv_layer], &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&ATTEND, &constants, &operands, step.n_heads, step.out)])
    }

    /// The norm of a query head, then that of a key head, in one buffer.
    fn head_norm(&self, norm: Option<&HeadNorm>, width: usize) -> Result<wgpu::Buffer> {
        let Some(norm) = norm else { return Ok(self.gpu.nothing.clone()) };
        let mut bytes = Vec::new();
        for weight in [norm.q_weight, norm.k_weight] {
            self.vector(Some(weight), width, StepKind::RopeStore)?;
            bytes.extend_from_slice(self.program.weight(weight).bytes());
        }
        self.gpu.constant("head norm", &bytes)
    }

    fn angles(&mut self, rope: Option<&RopeSpec>) -> Result<wgpu::Buffer> {
        let Some(rope) = rope else { return Ok(self.gpu.nothing.clone()) };
        let same = |other: &RopeSpec| {
            other.inverse_frequencies == rope.inverse_frequencies
                && other.magnitude == rope.magnitude
        };
        if let Some((_, buffer)) = self.angles.iter().find(|(other, _)| same(other)) {
            return Ok(buffer.clone());
        }
        let buffer = self.gpu.constant("rope angles", cast_slice(&rope::angles(rope)))?;
        self.angles.push((rope.clone(), buffer.clone()));
        Ok(buffer)
    }

    fn kv_constants(&self, layer: KvLayer) -> Constants {
        vec![
            ("page_tokens", count(self.kv_layout.page_tokens)),
            ("n_kv_heads", count(layer.n_kv_heads)),
            ("key_width", count(layer.key_width)),
            ("value_width", count(layer.value_width)),
        ]
    }
}
