//! Large buffers of zeros that take memory only where they are touched, and give
//! all of it back when dropped.
//!
//! A mapping of its own does both whatever the allocator's habits; a general
//! allocator may keep freed megabytes for later. WebAssembly has no mappings.

use std::marker::PhantomData;

use bytemuck::Pod;

/// `[T]`, zero at first.
pub(crate) struct Zeroed<T> {
    #[cfg(not(target_family = "wasm"))]
    map: Option<memmap2::MmapMut>,
    #[cfg(target_family = "wasm")]
    values: Box<[T]>,
    element: PhantomData<T>,
}

#[cfg(not(target_family = "wasm"))]
impl<T: Pod> Zeroed<T> {
    /// `None` when the memory is not to be had.
    pub fn new(len: usize) -> Option<Self> {
        let bytes =
            len.checked_mul(size_of::<T>()).filter(|bytes| *bytes <= isize::MAX as usize)?;
        let map = match bytes {
            0 => None,
            _ => Some(memmap2::MmapMut::map_anon(bytes).ok()?),
        };
        Some(Zeroed { map, element: PhantomData })
    }

    /// The same in large pages, where the system has them: for what is read in long
    /// runs, which cost many translations in small ones.
    pub fn in_large_pages(len: usize) -> Option<Self> {
        let zeroed = Self::new(len)?;
        #[cfg(target_os = "linux")]
        if let Some(map) = &zeroed.map {
            // Without large pages it is as slow as it would have been.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Some(zeroed)
    }

    pub fn as_slice(&self) -> &[T] {
        // Mappings begin at a page, so they are aligned for every plain type.
        self.map.as_ref().map_or(&[], |map| bytemuck::cast_slice(map))
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(map))
    }
}

#[cfg(target_family = "wasm")]
impl<T: Pod> Zeroed<T> {
    /// `None` when the memory is not to be had.
    pub fn new(len: usize) -> Option<Self> {
        let values = bytemuck::allocation::try_zeroed_slice_box(len).ok()?;
        Some(Zeroed { values, element: PhantomData })
    }

    /// There are no pages to choose from.
    pub fn in_large_pages(len: usize) -> Option<Self> {
        Self::new(len)
    }

    pub fn as_slice(&self) -> &[T] {
        &self.values
    }

    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_any_length_are_zero_and_impossible_ones_are_refused() {
        for len in [0, 1, 5000] {
            let mut buffer = Zeroed::<f32>::new(len).unwrap();
            assert_eq!(buffer.as_slice(), vec![0.0; len]);
            buffer.as_mut_slice().fill(1.0);
            assert_eq!(buffer.as_slice(), vec![1.0; len]);
        }
        assert!(Zeroed::<f32>::new(usize::MAX / 2).is_none());
    }
}
