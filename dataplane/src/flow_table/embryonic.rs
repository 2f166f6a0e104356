//! The TCP handshakes under way, oldest first: a list through an arena of fixed size. All of it is
//! allocated at start; every step takes the same few instructions, however many there are.

/// The place of a flow that is not in the list.
pub(super) const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    flow: u32,
    older: u32,
    /// Of a free place: the next free one.
    newer: u32,
}

/// The list.
#[derive(Debug)]
pub(super) struct Handshakes {
    nodes: Box<[Node]>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: u32,
}

impl Handshakes {
    /// An empty list with room for `max` flows, at least one.
    pub(super) fn with_capacity(max: u32) -> Self {
        let max = max.max(1);
        let next = |n: u32| if n + 1 < max { n + 1 } else { NOWHERE };
        let node = |n| Node { flow: 0, older: NOWHERE, newer: next(n) };
        let nodes = (0..max).map(node).collect();
        Self { nodes, free: 0, oldest: NOWHERE, newest: NOWHERE, len: 0 }
    }

    /// Bytes of the arena.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.nodes)
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Whether the next one needs the place of another.
    pub(super) fn is_full(&self) -> bool {
        self.free == NOWHERE
    }

    /// Adds the newest one. Returns its place; [`NOWHERE`] if the list is full.
    pub(super) fn push(&mut self, flow: u32) -> u32 {
        let (place, newest) = (self.free, self.newest);
        let Some(node) = self.nodes.get_mut(place as usize) else { return NOWHERE };
        self.free = node.newer;
        *node = Node { flow, older: newest, newer: NOWHERE };
        match self.nodes.get_mut(newest as usize) {
            Some(before) => before.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
        self.len += 1;
        place
    }

    /// Takes the flow at a place out of the list. The place must be one that [`Handshakes::push`]
    /// returned and that was not taken out since.
    pub(super) fn remove(&mut self, place: u32) {
        let Some(node) = self.nodes.get(place as usize).copied() else { return };
        match self.nodes.get_mut(node.older as usize) {
            Some(older) => older.newer = node.newer,
            None => self.oldest = node.newer,
        }
        match self.nodes.get_mut(node.newer as usize) {
            Some(newer) => newer.older = node.older,
            None => self.newest = node.older,
        }
        if let Some(freed) = self.nodes.get_mut(place as usize) {
            freed.newer = self.free;
        }
        self.free = place;
        self.len -= 1;
    }

    /// The flows' numbers, the oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = u32> {
        let mut at = self.oldest;
        core::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.newer;
            Some(node.flow)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Against a plain queue: pushes and removals at any place.
    #[test]
    fn the_list_keeps_its_order_through_any_removals() {
        bolero::check!().with_type::<Vec<(bool, u8)>>().for_each(|steps| {
            let (mut list, mut oracle) = (Handshakes::with_capacity(8), VecDeque::new());
            for (number, (is_push, which)) in (0..).zip(steps) {
                if *is_push {
                    let place = list.push(number);
                    assert_eq!(place == NOWHERE, oracle.len() == 8);
                    if place != NOWHERE {
                        oracle.push_back((number, place));
                    }
                } else if !oracle.is_empty() {
                    let (_, place) = oracle.remove(usize::from(*which) % oracle.len()).unwrap();
                    list.remove(place);
                }
                assert!(list.oldest_first().eq(oracle.iter().map(|(flow, _)| *flow)));
                assert_eq!(
                    (list.len() as usize, list.is_full()),
                    (oracle.len(), oracle.len() == 8)
                );
            }
        });
    }
}
