//! Panics in `Hash`, `Eq`, `Clone`, `Drop` and closures leave the map valid: nothing
//! is lost, nothing is dropped twice, and it goes on working.
#![cfg(feature = "collections")]

mod map_support;

use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use map_support::{Masked, Random};
use spanalloc::map::{Growth, Map, Policy};

/// What may panic.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Hash,
    Eq,
    Clone,
    Drop,
}

/// Counts calls down to the one that panics, and what is alive.
#[derive(Default)]
struct World {
    fault: Cell<Option<Fault>>,
    countdown: Cell<u32>,
    alive: std::cell::RefCell<HashSet<u64>>,
    made: Cell<u64>,
}

impl World {
    fn arm(&self, fault: Fault, countdown: u32) {
        self.fault.set(Some(fault));
        self.countdown.set(countdown);
    }

    fn disarm(&self) {
        self.fault.set(None);
    }

    fn call(&self, fault: Fault) {
        if self.fault.get() == Some(fault) {
            let left = self.countdown.get();
            self.countdown.set(left.wrapping_sub(1));
            if left == 0 {
                self.fault.set(None);
                panic!("{fault:?}, as arranged");
            }
        }
    }

    fn thing(self: &Rc<Self>, value: u64) -> Thing {
        let id = self.made.get();
        self.made.set(id + 1);
        self.alive.borrow_mut().insert(id);
        Thing { value, id, world: Rc::clone(self) }
    }
}

/// A key or value whose every trait may panic.
struct Thing {
    value: u64,
    id: u64,
    world: Rc<World>,
}

impl Hash for Thing {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.world.call(Fault::Hash);
        self.value.hash(hasher);
    }
}

impl PartialEq for Thing {
    fn eq(&self, other: &Self) -> bool {
        self.world.call(Fault::Eq);
        self.value == other.value
    }
}

impl Eq for Thing {}

impl Clone for Thing {
    fn clone(&self) -> Self {
        self.world.call(Fault::Clone);
        self.world.thing(self.value)
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        assert!(self.world.alive.borrow_mut().remove(&self.id), "{} dropped twice", self.id);
        if !std::thread::panicking() {
            self.world.call(Fault::Drop);
        }
    }
}

type Things = Map<Thing, Thing, Masked>;

/// Every operation that calls the entries' traits.
const OPERATIONS: usize = 13;

fn operate(operation: usize, world: &Rc<World>, map: &mut Things, key: u64) {
    match operation {
        0..=2 => drop(map.insert(world.thing(key), world.thing(key))),
        3 => drop(map.remove(&world.thing(key))),
        4 => drop(map.get(&world.thing(key)).is_some()),
        5 => drop(map.entry(world.thing(key)).or_insert_with(|| world.thing(key)).value),
        6 => drop(map.clone()),
        7 => map.retain(|key, _| key.value % 4 != 0),
        8 => map.shrink_to_fit(),
        9 => map.reserve(200),
        10 => drop(map.drain().take(5).count()),
        11 => drop(map.extract_if(|key, _| key.value % 3 == 0).count()),
        _ => map.clear(),
    }
}

/// The map is sound, holds no key twice, and owns all that is alive.
fn assert_sound(world: &World, map: &Things, context: &str) {
    assert_eq!(map.check(), Ok(()), "{context}\n{}", map.tophashes());
    let keys: HashSet<u64> = map.keys().map(|key| key.value).collect();
    assert_eq!(keys.len(), map.len(), "{context}: a key is there twice");
    let owned: HashSet<u64> = map.iter().flat_map(|(key, value)| [key.id, value.id]).collect();
    assert_eq!(owned, *world.alive.borrow(), "{context}: leaked, or dropped too early");
}

#[test]
fn any_call_may_panic_anywhere() {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut panics = [0; 4];
    let mut failed = None;
    for seed in 0..500 {
        let outcome = catch_unwind(AssertUnwindSafe(|| one_life(seed, &mut panics)));
        if let Err(reason) = outcome {
            let text = reason.downcast_ref::<String>().cloned();
            failed = failed.or(Some(format!("seed {seed}: {text:?}")));
        }
    }
    std::panic::set_hook(silent);
    assert_eq!(failed, None);
    assert!(panics.iter().all(|&count| count > 100), "too few panics to tell: {panics:?}");
}

/// A map's life of faults; ends by dropping it, which must leave nothing alive.
fn one_life(seed: u64, panics: &mut [u32; 4]) {
    let mut random = Random(seed);
    let world = Rc::new(World::default());
    let growth = [Growth::Incremental, Growth::AtOnce][seed as usize % 2];
    let mask = [u64::MAX, 0xff00_0000_0000_000f, 0][seed as usize / 2 % 3];
    let mut map =
        Things::with_hasher(Masked(mask)).with_policy(Policy { growth, ..Policy::default() });
    for round in 0..200 {
        let fault = [Fault::Hash, Fault::Eq, Fault::Clone, Fault::Drop][random.below(4) as usize];
        let operation = match random.below(100) {
            rare @ 0..7 => OPERATIONS - 7 + rare as usize,
            common => common as usize % 6,
        };
        // Few calls into an insert, or many, into the chains it evacuates.
        let calls = [4, 60][random.below(2) as usize];
        world.arm(fault, random.below(calls) as u32);
        let key = random.below(150);
        let run = || operate(operation, &world, &mut map, key);
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            panics[fault as usize] += 1;
        }
        world.disarm();
        assert_sound(&world, &map, &format!("round {round}, operation {operation}, {fault:?}"));
    }
    if seed.is_multiple_of(2) {
        world.arm(Fault::Drop, random.below(20) as u32);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(map)));
    } else {
        let mut iter = map.into_iter();
        assert!(iter.by_ref().take(3).count() <= 3);
        world.arm(Fault::Drop, random.below(20) as u32);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(iter)));
    }
    assert!(world.alive.borrow().is_empty(), "one drop panicked, others did not happen");
}

#[test]
fn a_panicking_closure_leaves_the_rest() {
    let mut map: Map<u32, String> = (0..100).map(|n| (n, n.to_string())).collect();
    let mut seen = 0;
    let retained = catch_unwind(AssertUnwindSafe(|| {
        map.retain(|key, _| {
            seen += 1;
            assert!(seen < 50, "as arranged");
            key % 2 == 0
        });
    }));
    assert!(retained.is_err() && map.len() > 50 && map.len() < 100);
    assert_eq!(map.check(), Ok(()));
    let before = map.len();
    let extracted = catch_unwind(AssertUnwindSafe(|| {
        map.extract_if(|_, value| {
            assert!(value.starts_with(|first: char| first < '9'), "as arranged");
            true
        })
        .count()
    }));
    assert!(extracted.is_err() && map.len() <= before && map.values().any(|v| v.starts_with('9')));
    assert_eq!(map.check(), Ok(()));
    let entered = catch_unwind(AssertUnwindSafe(|| {
        map.entry(1000).or_insert_with(|| panic!("as arranged"));
    }));
    assert!(entered.is_err() && !map.contains_key(&1000));
}

/// A hasher that answers differently each time makes keys hard to find. That is all.
#[test]
fn a_lying_hasher_does_not_break_the_map() {
    struct Liar(Rc<Cell<u64>>);
    impl std::hash::BuildHasher for Liar {
        type Hasher = std::hash::DefaultHasher;
        fn build_hasher(&self) -> Self::Hasher {
            let mut hasher = std::hash::DefaultHasher::new();
            self.0.set(self.0.get() + 1);
            hasher.write_u64(self.0.get() % 7);
            hasher
        }
    }
    let mut map = Map::with_hasher(Liar(Rc::default()));
    let mut expected = 0;
    for n in 0..3000u64 {
        expected += usize::from(map.insert(n % 700, n.to_string()).is_none());
        expected -= usize::from(map.remove(&(n % 300)).is_some());
        assert_eq!(map.len(), expected);
        if n % 50 == 0 {
            assert_eq!(map.check_structure(), Ok(()));
            assert_eq!(map.iter().count(), expected);
        }
    }
    map.shrink_to_fit();
    assert_eq!(map.check_structure(), Ok(()));
    assert_eq!(map.drain().count(), expected);
}

#[test]
fn leaking_a_drain_leaves_an_empty_map() {
    let mut map: Map<u32, u32> = (0..100).map(|n| (n, n)).collect();
    let mut drain = map.drain();
    drain.next();
    std::mem::forget(drain);
    assert!(map.is_empty());
    assert_eq!(map.check(), Ok(()));
    map.insert(1, 1);
    assert_eq!(map[&1], 1);
}
