//! A slab, or generational arena: values in slots of chunks that are never reallocated, found
//! by handles.
//!
//! A handle is an index and a *generation*: the slot's count of tenants. A handle to
//! a removed value finds nothing, even when the slot has a new tenant.
//!
//! # Invariants
//!
//! 1. Vacant slots form a list from `vacant` on. A slot's generation grows when it
//!    becomes vacant; one whose generation cannot grow any more is never used again.
//! 2. Each chunk has [`SLOTS`](Slab::SLOTS) slots, and stays where it is.

use std::marker::PhantomData;

/// The most slots and bytes of a chunk.
const CHUNK_SLOTS_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Where a value of a [`HandleMap`](super::HandleMap) lies. Stays good until the value
/// is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    index: u32,
    generation: u32,
}

/// Values in chunks that stay where they are.
#[derive(Clone)]
pub(super) struct Slab<V> {
    chunks: Vec<Box<[Slot<V>]>>,
    vacant: Option<u32>,
    reused: u64,
}

#[derive(Clone)]
struct Slot<V> {
    generation: u32,
    tenant: Tenant<V>,
}

#[derive(Clone)]
enum Tenant<V> {
    Value(V),
    Vacant { next: Option<u32> },
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), vacant: None, reused: 0 }
    }
}

impl<V> Slab<V> {
    /// Slots in a chunk: a power of two, of large values one.
    const SLOTS: usize = {
        let mut slots = CHUNK_SLOTS_MAX;
        while slots > 1 && slots * size_of::<Slot<V>>() > CHUNK_BYTES_MAX {
            slots /= 2;
        }
        slots
    };
    /// Bytes of a chunk.
    pub(super) const CHUNK_BYTES: usize = Self::SLOTS * size_of::<Slot<V>>();

    /// The chunk that a slot lies in, and its place there.
    fn split(index: u32) -> (usize, usize) {
        (index as usize / Self::SLOTS, index as usize % Self::SLOTS)
    }

    /// Chunks allocated.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Values that took a slot of a removed one.
    pub(super) fn reused(&self) -> u64 {
        self.reused
    }

    /// Slots that hold a value, counted.
    pub(super) fn occupied(&self) -> usize {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.iter());
        slots.filter(|slot| matches!(slot.tenant, Tenant::Value(_))).count()
    }

    /// Empty, with slots for `capacity` values.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let mut slab = Self::default();
        if capacity > 0 {
            slab.add_chunks(capacity.div_ceil(Self::SLOTS));
        }
        slab
    }

    /// Has slots for `additional` values beside the `len` that there are. What was vacant stays so,
    /// behind what is added.
    pub(super) fn reserve(&mut self, len: usize, additional: usize) {
        let vacant = self.slots() - len;
        if additional > vacant {
            self.add_chunks((additional - vacant).div_ceil(Self::SLOTS));
        }
    }

    /// As [`reserve`](Self::reserve); `None`, with nothing changed, when there are no such slots or
    /// no memory for them.
    pub(super) fn try_reserve(&mut self, len: usize, additional: usize) -> Option<()> {
        let vacant = self.slots() - len;
        if additional <= vacant {
            return Some(());
        }
        let count = (additional - vacant).div_ceil(Self::SLOTS);
        let (first, last) = self.next_slots(count)?;
        let mut chunks = Vec::new();
        chunks.try_reserve_exact(count).ok()?;
        for start in (first..=last).step_by(Self::SLOTS) {
            let mut chunk = Vec::new();
            chunk.try_reserve_exact(Self::SLOTS).ok()?;
            chunk.extend(self.chunk(start, last));
            chunks.push(chunk.into_boxed_slice());
        }
        self.chunks.try_reserve(count).ok()?;
        self.chunks.append(&mut chunks);
        self.vacant = Some(first);
        Some(())
    }

    /// Slots there are, occupied or not.
    pub(super) fn slots(&self) -> usize {
        self.chunks.len() * Self::SLOTS
    }

    /// All values, in the order of their slots.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.chunks.iter_mut().flatten().filter_map(|slot| match &mut slot.tenant {
            Tenant::Value(value) => Some(value),
            Tenant::Vacant { .. } => None,
        })
    }

    fn slot(&self, index: u32) -> Option<&Slot<V>> {
        let (chunk, place) = Self::split(index);
        self.chunks.get(chunk)?.get(place)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<V>> {
        let (chunk, place) = Self::split(index);
        self.chunks.get_mut(chunk)?.get_mut(place)
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&V> {
        let slot = self.slot(handle.index)?;
        match &slot.tenant {
            Tenant::Value(value) if slot.generation == handle.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut V> {
        let slot = self.slot_mut(handle.index)?;
        match &mut slot.tenant {
            Tenant::Value(value) if slot.generation == handle.generation => Some(value),
            _ => None,
        }
    }

    /// The handle that the next value will have.
    pub(super) fn next_handle(&mut self) -> Handle {
        if self.vacant.is_none() {
            self.add_chunks(1);
        }
        let index = self.vacant.expect("a chunk was added");
        let generation = self.slot(index).expect("a vacant slot exists").generation;
        Handle { index, generation }
    }

    /// The values' places, to refer to several at a time.
    pub(super) fn places(&mut self) -> Places<'_, V> {
        let chunks = self.chunks.iter_mut().map(|chunk| chunk.as_mut_ptr()).collect();
        Places { chunks, slab: PhantomData }
    }

    /// Adds `count` chunks, one at least, before the slots that are vacant.
    fn add_chunks(&mut self, count: usize) {
        let (first, last) = self.next_slots(count).expect("HandleMap: no slots left");
        for start in (first..=last).step_by(Self::SLOTS) {
            let chunk = self.chunk(start, last).collect();
            self.chunks.push(chunk);
        }
        self.vacant = Some(first);
    }

    /// The first and the last of the slots that `count` more chunks would have, if they can be
    /// numbered.
    fn next_slots(&self, count: usize) -> Option<(u32, u32)> {
        let first = self.slots();
        let end = first.checked_add(count.checked_mul(Self::SLOTS)?)?;
        Some((u32::try_from(first).ok()?, u32::try_from(end.checked_sub(1)?).ok()?))
    }

    /// The slots of the chunk that begins with slot `start`, of those up to `last`: each leads to
    /// the next, the last to what is vacant now.
    fn chunk(&self, start: u32, last: u32) -> impl Iterator<Item = Slot<V>> + use<V> {
        let vacant = self.vacant;
        (start..=start + (Self::SLOTS - 1) as u32).map(move |index| Slot {
            generation: 0,
            tenant: Tenant::Vacant { next: if index < last { Some(index + 1) } else { vacant } },
        })
    }

    /// Puts a value at the handle that [`next_handle`](Self::next_handle) returned last.
    pub(super) fn fill(&mut self, handle: Handle, value: V) {
        let slot = self.slot_mut(handle.index).expect("a vacant slot exists");
        let Tenant::Vacant { next } = std::mem::replace(&mut slot.tenant, Tenant::Value(value))
        else {
            unreachable!("the list holds vacant slots only")
        };
        self.reused += u64::from(handle.generation > 0);
        self.vacant = next;
    }

    /// Takes the value out of its slot, if it is still the handle's. No handle finds it any more.
    pub(super) fn vacate(&mut self, handle: Handle) -> Option<V> {
        self.get(handle)?;
        let next = self.vacant;
        let slot = self.slot_mut(handle.index)?;
        let Tenant::Value(value) = std::mem::replace(&mut slot.tenant, Tenant::Vacant { next })
        else {
            unreachable!("it has just been found");
        };
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.vacant = Some(handle.index);
        }
        Some(value)
    }
}

/// The places of a slab's values, borrowed mutably and one by one.
pub(super) struct Places<'s, V> {
    /// The first slot of each chunk.
    chunks: Vec<*mut Slot<V>>,
    slab: PhantomData<&'s mut Slab<V>>,
}

// SAFETY: it is a mutable borrow of the slab, by which each value is handed out once.
unsafe impl<V: Send> Send for Places<'_, V> {}
// SAFETY: as above; a shared one hands out nothing.
unsafe impl<V: Sync> Sync for Places<'_, V> {}

impl<'s, V> Places<'s, V> {
    /// The value at `handle`.
    ///
    /// # Safety
    ///
    /// The handle is the slab's, and none of its slot has been asked for before.
    pub(super) unsafe fn get(&mut self, handle: Handle) -> Option<&'s mut V> {
        let (chunk, place) = Slab::<V>::split(handle.index);
        // SAFETY: chunks have `SLOTS` slots, of which this is one.
        let slot = unsafe { self.chunks[chunk].add(place) };
        // SAFETY: the slab is mutably borrowed, and nobody has another reference to this
        // slot, by the caller's contract.
        let slot = unsafe { &mut *slot };
        match &mut slot.tenant {
            Tenant::Value(value) if slot.generation == handle.generation => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_with_the_last_generation_is_retired() {
        let mut slab = Slab::default();
        let first = slab.next_handle();
        slab.fill(first, 'a');
        slab.slot_mut(first.index).unwrap().generation = u32::MAX;
        let last = Handle { generation: u32::MAX, ..first };
        assert_eq!(slab.vacate(last), Some('a'));
        assert_ne!(slab.next_handle().index, first.index);
        assert_eq!(slab.get(last), None);
    }

    #[test]
    fn a_handle_vacates_its_own_value_only() {
        let mut slab = Slab::default();
        let first = slab.next_handle();
        slab.fill(first, 'a');
        assert_eq!((slab.vacate(first), slab.vacate(first)), (Some('a'), None));
        let second = slab.next_handle();
        assert_eq!(second.index, first.index, "the slot is used again");
        slab.fill(second, 'b');
        assert_eq!((slab.vacate(first), slab.get(second)), (None, Some(&'b')));
        let third = slab.next_handle();
        slab.fill(third, 'c');
        assert!(third.index != second.index && slab.get(second) == Some(&'b'));
    }
}
