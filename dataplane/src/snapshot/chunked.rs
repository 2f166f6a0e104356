//! A list whose copies share what did not change.

use std::sync::Arc;

/// Elements of a chunk. A change copies one chunk and the list of chunks: as many bytes each at a
/// hundred thousand next hops.
const CHUNK: usize = 256;

/// A list that is copied in the time of one pointer. A change copies the chunk that it falls into,
/// if a copy shares it. Reading costs as much as from a vector behind a pointer.
#[derive(Debug, Clone)]
pub struct Chunked<T> {
    /// Of [`CHUNK`] elements each; what lies behind `count` is filled up with defaults.
    chunks: Arc<[Arc<[T]>]>,
    count: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Arc::default(), count: 0 }
    }
}

impl<T> Chunked<T> {
    /// The element at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        if index >= self.count {
            return None;
        }
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).take(self.count)
    }

    /// Whether the two are one: nothing was changed since one was copied from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }
}

impl<T: Clone + Default> Chunked<T> {
    /// Sets the element at `index`. Those between the end and `index` become defaults.
    pub fn set(&mut self, index: usize, element: T) {
        let chunk_count = index / CHUNK + 1;
        if chunk_count > self.chunks.len() {
            let filled = || core::iter::repeat_with(T::default).take(CHUNK).collect();
            let more = core::iter::repeat_with(filled).take(chunk_count - self.chunks.len());
            self.chunks = self.chunks.iter().cloned().chain(more).collect();
        }
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(index / CHUNK).map(Arc::make_mut);
        if let Some(place) = chunk.and_then(|chunk| chunk.get_mut(index % CHUNK)) {
            *place = element;
            self.count = self.count.max(index + 1);
        }
    }
}

impl<T: Clone + Default> FromIterator<T> for Chunked<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut list = Self::default();
        for (index, element) in elements.into_iter().enumerate() {
            list.set(index, element);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_where_they_were_set() {
        let mut list: Chunked<usize> = (0..1_000).collect();
        assert_eq!((list.len(), list.get(999), list.get(1_000)), (1_000, Some(&999), None));
        list.set(1_500, 7);
        list.set(3, 8);
        assert_eq!((list.len(), list.get(1_499), list.get(1_500)), (1_501, Some(&0), Some(&7)));
        let expected = (0..1_000).map(|n| if n == 3 { 8 } else { n });
        assert!(list.iter().take(1_000).copied().eq(expected));
        assert_eq!(list.iter().count(), 1_501);
    }

    #[test]
    fn a_copy_keeps_its_own_and_shares_all_but_the_changed_chunk() {
        let mut list: Chunked<usize> = (0..1_000).collect();
        let before = list.clone();
        assert!(list.is_same(&before));
        list.set(300, 1);
        assert!(!list.is_same(&before));
        assert_eq!((before.get(300), list.get(300)), (Some(&300), Some(&1)));
        let shared = before.chunks.iter().zip(list.chunks.iter());
        let shared: Vec<bool> = shared.map(|(a, b)| Arc::ptr_eq(a, b)).collect();
        assert_eq!(shared, [true, false, true, true]);
    }
}
