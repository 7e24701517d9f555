//! Rows interleaved as the kernels load them.
//!
//! A group is as many rows as a vector has lanes. Bytes `at..at + n` of every row of a
//! group lie together, from `at` times the number of rows on, in units that a kernel
//! loads at once: f16 numbers and dwords, each of the first row, the second, and so on.
//! A load then takes one vector where GGUF's layout takes a gather from all rows, and
//! memory is read in one stream. Sizes do not change, nor does any result.

/// A format's blocks, as units of interleaving.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    /// Rows of a group.
    pub rows: usize,
    /// Whether a block begins with an f16 before its dwords. One that is left after
    /// the dwords needs no word.
    pub begins_with_f16: bool,
}

impl Packing {
    /// Interleaves whole groups of rows of whole blocks; lengths have been checked.
    pub fn pack(self, weights: &[u8], row_bytes: usize, block_bytes: usize, out: &mut [u8]) {
        let group_bytes = self.rows * row_bytes;
        for (group, out) in weights.chunks_exact(group_bytes).zip(out.chunks_exact_mut(group_bytes))
        {
            for block in (0..row_bytes).step_by(block_bytes) {
                let out = &mut out[block * self.rows..][..block_bytes * self.rows];
                let rows = |at: usize| group[block + at..].chunks(row_bytes);
                let head = if self.begins_with_f16 { 2 } else { 0 };
                let dwords = (block_bytes - head) / 4;
                let (first, rest) = out.split_at_mut(head * self.rows);
                let (middle, last) = rest.split_at_mut(4 * dwords * self.rows);
                interleave::<2>(rows(0), first);
                for (i, out) in middle.chunks_exact_mut(4 * self.rows).enumerate() {
                    interleave::<4>(rows(head + 4 * i), out);
                }
                interleave::<2>(rows(head + 4 * dwords), last);
            }
        }
    }

    /// Brings one row of an interleaved group back together.
    pub fn unpack_row(self, group: &[u8], row: usize, block_bytes: usize, out: &mut [u8]) {
        for (block, out) in
            group.chunks_exact(block_bytes * self.rows).zip(out.chunks_exact_mut(block_bytes))
        {
            let head = if self.begins_with_f16 { 2 } else { 0 };
            let mut at = 0;
            while at < block_bytes {
                let unit = if at < head || block_bytes - at < 4 { 2 } else { 4 };
                out[at..at + unit].copy_from_slice(&block[at * self.rows + row * unit..][..unit]);
                at += unit;
            }
        }
    }
}

/// The first `N` bytes of each row, one after another; nothing if `out` is empty.
fn interleave<'a, const N: usize>(rows: impl Iterator<Item = &'a [u8]>, out: &mut [u8]) {
    for (row, out) in rows.zip(out.chunks_exact_mut(N)) {
        out.copy_from_slice(&row[..N]);
    }
}
