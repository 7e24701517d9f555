//! Rows interleaved as the kernels load them.
//!
//! A group is as many rows as a vector has lanes. Its blocks follow one another, the same
//! block of all rows together: the scale of each row, in formats whose blocks have one apart
//! from their dwords, then the first dword of each row, the second of each, and so on, in the
//! order in which kernels read them ([`Order`]). A load then takes one vector where GGUF's
//! layout takes a gather from all rows, and memory is read in one stream. Sizes do not
//! change, nor does any result.

/// Most dwords of a block whose order is not that of GGUF.
const MAX_DWORDS: usize = 64;

/// Where the parts of a block lie when rows are interleaved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// GGUF's bytes of the scale that comes first here, first and end, if any does: one, or
    /// the two of an f16.
    pub scale: Option<(usize, usize)>,
    /// The rest as ranges of GGUF's bytes, first and end, each of whole dwords; none at all
    /// if their order is that of GGUF, where they then follow the scale.
    pub dwords: &'static [(usize, usize)],
}

impl Order {
    /// Bytes before the dwords.
    const fn scale_bytes(self) -> usize {
        match self.scale {
            Some((first, end)) => end - first,
            None => 0,
        }
    }

    /// For each dword of a block as GGUF has it, at which byte it is here.
    pub const fn places(self) -> [usize; MAX_DWORDS] {
        let mut places = [0; MAX_DWORDS];
        let (mut to, mut i) = (self.scale_bytes(), 0);
        while i < self.dwords.len() {
            let (mut at, end) = self.dwords[i];
            while at < end {
                places[at / 4] = to;
                (at, to) = (at + 4, to + 4);
            }
            i += 1;
        }
        places
    }

    /// GGUF's places of the dwords of a block, in this order.
    fn dwords(self, block_bytes: usize) -> Vec<usize> {
        let all = [(self.scale_bytes(), block_bytes)];
        let ranges = if self.dwords.is_empty() { &all } else { self.dwords };
        ranges.iter().flat_map(|(first, end)| (*first..*end).step_by(4)).collect()
    }
}

/// How rows are interleaved for a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// Rows of a group.
    pub rows: usize,
    pub order: Order,
}

impl Packing {
    /// Interleaves whole groups of rows of whole blocks; lengths have been checked.
    pub fn pack(self, weights: &[u8], row_bytes: usize, block_bytes: usize, out: &mut [u8]) {
        let group_bytes = self.rows * row_bytes;
        let dwords = self.order.dwords(block_bytes);
        for (group, out) in weights.chunks_exact(group_bytes).zip(out.chunks_exact_mut(group_bytes))
        {
            for block in (0..row_bytes).step_by(block_bytes) {
                let out = &mut out[block * self.rows..][..block_bytes * self.rows];
                let rows = |at: usize| group[block + at..].chunks(row_bytes);
                let (first, rest) = out.split_at_mut(self.order.scale_bytes() * self.rows);
                match self.order.scale {
                    Some((at, end)) if end - at == 1 => interleave::<1>(rows(at), first),
                    Some((at, _)) => interleave::<2>(rows(at), first),
                    None => {}
                }
                for (at, out) in dwords.iter().zip(rest.chunks_exact_mut(4 * self.rows)) {
                    interleave::<4>(rows(*at), out);
                }
            }
        }
    }

    /// Brings one row of an interleaved group back together.
    pub fn unpack_row(self, group: &[u8], row: usize, block_bytes: usize, out: &mut [u8]) {
        let dwords = self.order.dwords(block_bytes);
        for (block, out) in
            group.chunks_exact(block_bytes * self.rows).zip(out.chunks_exact_mut(block_bytes))
        {
            let (first, rest) = block.split_at(self.order.scale_bytes() * self.rows);
            if let Some((at, end)) = self.order.scale {
                let len = end - at;
                out[at..end].copy_from_slice(&first[row * len..][..len]);
            }
            for (at, words) in dwords.iter().zip(rest.chunks_exact(4 * self.rows)) {
                out[*at..][..4].copy_from_slice(&words[4 * row..][..4]);
            }
        }
    }
}

/// The first `N` bytes of each row, one after another.
fn interleave<'a, const N: usize>(rows: impl Iterator<Item = &'a [u8]>, out: &mut [u8]) {
    for (row, out) in rows.zip(out.chunks_exact_mut(N)) {
        out.copy_from_slice(&row[..N]);
    }
}
