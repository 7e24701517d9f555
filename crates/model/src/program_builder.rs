//! Collects slots, weights and steps while a program is built.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use realm_gguf::{Gguf, Metadata, TensorData, TensorType};
use realm_ir::{Program, Rows, Slot, SlotInfo, Step, WeightRef};

use crate::adapter::WeightRows;
use crate::derived::gather_rows;
use crate::error::{Error, Result};

/// A program in the making.
pub(crate) struct ProgramBuilder<'a> {
    gguf: &'a Gguf,
    /// Names of the tensors that were used.
    used: HashSet<String>,
    slots: Vec<SlotInfo>,
    weights: Vec<TensorData>,
    /// Of weights that are a part of their tensor.
    parts: WeightRows,
    segments: Vec<Vec<Step>>,
}

impl<'a> ProgramBuilder<'a> {
    pub fn new(gguf: &'a Gguf) -> Self {
        ProgramBuilder {
            gguf,
            used: HashSet::new(),
            slots: Vec::new(),
            weights: Vec::new(),
            parts: WeightRows::new(),
            segments: Vec::new(),
        }
    }

    /// A new slot.
    pub fn slot(&mut self, rows: Rows, width: usize) -> Slot {
        self.slots.push(SlotInfo { width, rows });
        Slot(self.slots.len() - 1)
    }

    /// Values per row of a slot.
    pub fn width(&self, slot: Slot) -> usize {
        self.slots[slot.0].width
    }

    /// Starts the next segment.
    pub fn begin_segment(&mut self) {
        self.segments.push(Vec::new());
    }

    /// Appends a step to the segment begun last.
    pub fn push(&mut self, step: Step) {
        self.segments.last_mut().expect("begin_segment comes first").push(step);
    }

    /// A tensor that must be there, with this shape and a type that can be computed with.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData> {
        let tensor = checked(self.gguf.require_tensor(name)?, shape)?;
        self.used.insert(name.to_owned());
        Ok(tensor)
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &'a Metadata {
        self.gguf.metadata()
    }

    /// Whether the file has a tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// The values of a tensor that must be there.
    pub fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        values(&self.tensor(name, shape)?)
    }

    /// A matrix whose rows come in `n_groups` equal groups: in each the rows of the first
    /// part, then of the next. Gives each part with its rows of all groups.
    pub fn row_groups(
        &mut self,
        name: &str,
        width: usize,
        n_groups: usize,
        parts: &[usize],
    ) -> Result<Vec<TensorData>> {
        let n_rows: usize = parts.iter().sum();
        let name = format!("{name}.weight");
        let matrix = self.tensor(&name, &[width, n_groups * n_rows])?;
        let mut first = 0;
        let part = |n: &usize| {
            let starts = (0..n_groups).map(|group| group * n_rows + first);
            let rows: Vec<_> = starts.map(|start| start..start + n).collect();
            first += n;
            gather_rows(&matrix, &rows)
        };
        parts.iter().map(part).collect()
    }

    /// The factor that belongs to matrix `name` in files whose format has none of its
    /// own for a whole tensor (NVFP4, the first BitNet files); 1 without one.
    pub fn matrix_scale(&mut self, name: &str) -> Result<f32> {
        self.used.insert(format!("{name}.scale"));
        matrix_scale(self.gguf, name)
    }

    /// A weight made here: f32 values `[values.len()]`.
    pub fn constant(&mut self, name: &str, values: &[f32]) -> Result<WeightRef> {
        self.constant_rows(name, &[values.len()], values)
    }

    /// The same in any shape.
    pub fn constant_rows(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<WeightRef> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = TensorData::from_vec(name, shape, TensorType::F32, bytes)?;
        Ok(self.add(tensor))
    }

    /// Counts a tensor that has no part in what is computed as used.
    pub fn ignore(&mut self, name: String) {
        self.used.insert(name);
    }

    /// A new slot with a row per token.
    pub fn batch_slot(&mut self, width: usize) -> Slot {
        self.slot(Rows::Batch, width)
    }

    /// The same as a reference for steps.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Result<WeightRef> {
        let tensor = self.tensor(name, shape)?;
        Ok(self.add(tensor))
    }

    /// A tensor that may be absent.
    pub fn optional(&mut self, name: &str, shape: &[usize]) -> Result<Option<WeightRef>> {
        match self.gguf.tensor(name) {
            Some(_) => self.weight(name, shape).map(Some),
            None => Ok(None),
        }
    }

    /// Some rows of a tensor as a weight.
    pub fn add_rows(&mut self, tensor: &TensorData, rows: Vec<Range<usize>>) -> Result<WeightRef> {
        let weight = self.add(gather_rows(tensor, &rows)?);
        self.parts.insert(weight, rows);
        Ok(weight)
    }

    /// Adds a tensor to the weights.
    pub fn add(&mut self, tensor: TensorData) -> WeightRef {
        self.weights.push(tensor);
        WeightRef(self.weights.len() - 1)
    }

    /// Refuses a file with tensors that no step uses: what they are for would be missing.
    /// Blocks from `n_layers` on predict further tokens and are left out on purpose.
    pub fn check_all_used(&self, n_layers: usize) -> Result<()> {
        for tensor in self.gguf.tensors() {
            let name = tensor.name();
            let mut parts = name.split('.');
            let block = match parts.next() {
                Some("blk") => parts.next().and_then(|number| number.parse::<usize>().ok()),
                _ => None,
            };
            let is_beyond = block.is_some_and(|block| block >= n_layers);
            // Frequencies and their factors are read with the rotation.
            let is_rope = name.contains("rope_f") || name.contains("attn_rot_embd");
            // For processors that round activations to four bits.
            let is_input_scale = name.ends_with(".input_scale");
            if !(self.used.contains(name) || is_beyond || is_rope || is_input_scale) {
                let supported = "only the tensors that this architecture is known to have";
                return Err(Error::unsupported(name, "a tensor that nothing uses", supported));
            }
        }
        Ok(())
    }

    /// Values that the widest product leaves in a row of each slot that products alone fill: what
    /// other steps do to these rows they do in place. For the parts of layers that a file's
    /// numbers say are wider than any layer's are.
    fn product_widths(&self) -> HashMap<Slot, usize> {
        let mut widths: HashMap<Slot, usize> = HashMap::new();
        // Slots of an activation in place, which has a factor for every value.
        let mut pairs = Vec::new();
        for step in self.segments.iter().flatten() {
            let Step::Linear(linear) = step else { continue };
            for output in &linear.outputs {
                let width = widths.entry(output.out).or_default();
                *width = self.weights[output.weight.0].n_rows().max(*width);
            }
        }
        for step in self.segments.iter().flatten() {
            match step {
                Step::Linear(_) | Step::Sparsify(_) => {}
                Step::Norm(norm) if norm.input == norm.out => {}
                Step::GatedAct(act) if act.gate == act.out && act.up_offset == 0 => {
                    pairs.extend(act.up.map(|up| [act.gate, up]));
                }
                other => other.slots().iter().for_each(|slot| {
                    widths.remove(slot);
                }),
            }
        }
        loop {
            let before = widths.clone();
            for pair in &pairs {
                match pair.map(|slot| widths.get(&slot).copied()) {
                    [Some(gate), Some(up)] => widths.extend(pair.map(|slot| (slot, gate.max(up)))),
                    _ => widths.retain(|slot, _| !pair.contains(slot)),
                }
            }
            if widths == before {
                return widths;
            }
        }
    }

    /// The program, in which slots take no room that no step uses.
    pub fn finish(
        mut self,
        hidden: Slot,
        carried: Vec<Slot>,
        logits: Slot,
    ) -> (Program, WeightRows) {
        let used: HashSet<Slot> = self.segments.iter().flatten().flat_map(Step::slots).collect();
        let widths = self.product_widths();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let index = Slot(index);
            slot.width = match widths.get(&index) {
                _ if !used.contains(&index) => 0,
                Some(width) => slot.width.min(*width),
                None => slot.width,
            };
        }
        let program = Program {
            slots: self.slots,
            weights: self.weights,
            segments: self.segments,
            hidden,
            carried,
            logits,
        };
        (program, self.parts)
    }
}

/// The factor that belongs to matrix `name`; 1 without one.
pub(crate) fn matrix_scale(gguf: &Gguf, name: &str) -> Result<f32> {
    let name = format!("{name}.scale");
    let Some(tensor) = gguf.tensor(&name) else { return Ok(1.0) };
    let scale = values(&checked(tensor, &[1])?)?[0];
    match scale.is_normal() {
        true => Ok(scale),
        false => Err(Error::invalid(name, scale, "a finite number other than 0")),
    }
}

/// A tensor, if it has this shape and a type that can be computed with.
fn checked(tensor: TensorData, shape: &[usize]) -> Result<TensorData> {
    let name = tensor.name();
    if tensor.shape() != shape {
        let found = format!("shape {:?}", tensor.shape());
        return Err(Error::invalid(name, found, format!("shape {shape:?}, from the metadata")));
    }
    if !realm_quant::is_supported(tensor.ty()) {
        let supported: Vec<_> = realm_quant::supported().map(|ty| ty.name()).collect();
        let found = format!("type {}", tensor.ty());
        return Err(Error::unsupported(name, found, supported.join(", ")));
    }
    Ok(tensor)
}

fn values(tensor: &TensorData) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.row_len() * tensor.n_rows()];
    realm_quant::dequantize(tensor.ty(), tensor.fetch()?.bytes(), &mut values)
        .map_err(|error| Error::unsupported(tensor.name(), tensor.ty(), error))?;
    Ok(values)
}
