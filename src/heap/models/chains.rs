//! Models of chains of free blocks: what others pushed, and what the scavenger takes out.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::model;
use crate::base::sync::Ordering::*;
use crate::heap::remote::Remote;

#[test]
fn loom_what_blocks_hold_is_seen_by_who_looks_at_their_count() {
    model(3, || {
        let remote = Arc::new(Remote::new());
        let contents = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
        let others = [0, 1].map(|which| {
            let (remote, contents) = (remote.clone(), contents.clone());
            thread::spawn(move || {
                // SAFETY: this thread's block until it is pushed.
                contents[which].with_mut(|word| unsafe { *word = 7 });
                remote.push(which as u32 + 1, 1, |_| ());
            })
        });
        // As a span is given back: by a look at the count, without taking.
        while remote.view().count() < 2 {
            thread::yield_now();
        }
        for word in contents.iter() {
            // SAFETY: both blocks are free.
            assert_eq!(word.with_mut(|word| unsafe { *word }), 7);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// A refill, which looks at nothing before.
#[test]
fn loom_the_links_of_bundles_are_seen_by_who_takes_them() {
    model(3, || {
        let remote = Arc::new(Remote::new());
        let links = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
        let others = [0, 1].map(|which| {
            let (remote, links) = (remote.clone(), links.clone());
            thread::spawn(move || {
                remote.push(which as u32 + 1, 1, |head| {
                    // SAFETY: this thread's block until it is pushed.
                    links[which].with_mut(|link| unsafe { *link = head });
                });
            })
        });
        let mut taken = 0;
        while taken < 2 {
            let bundles = remote.take();
            let mut first = bundles.head();
            for _ in 0..bundles.count() {
                // SAFETY: a bundle of one block, which is this thread's; loom fails on a race.
                first = links[first as usize - 1].with(|link| unsafe { *link });
            }
            assert_eq!(first, 0, "the end");
            taken += bundles.count();
            thread::yield_now();
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// Thinning against the owner's free: `push_block`, and `thin_span` on a chain of three blocks,
/// of which the second is taken out; then the owner takes the chain, as a refill does.
#[test]
fn loom_a_chain_is_thinned_behind_its_head() {
    use loom::sync::atomic::AtomicU32;

    /// A span with four blocks; the links are numbers, 0 for none.
    struct Thinned {
        local: AtomicU32,
        countdown: AtomicU32,
        missing: AtomicU32,
        links: [UnsafeCell<u32>; 5],
        lock: Mutex<()>,
    }
    // SAFETY: what loom guards, loom guards.
    unsafe impl Sync for Thinned {}

    impl Thinned {
        fn next(&self, block: u32) -> u32 {
            // SAFETY: a free block of a chain; loom fails on a race.
            self.links[block as usize].with(|link| unsafe { *link })
        }

        fn set_next(&self, block: u32, next: u32) {
            // SAFETY: as above.
            self.links[block as usize].with_mut(|link| unsafe { *link = next });
        }

        fn push(&self, block: u32) {
            self.set_next(block, self.local.load(Relaxed));
            self.local.store(block, Release);
            self.countdown.store(self.countdown.load(Relaxed) - 1, Release);
        }
    }

    model(3, || {
        let span = Arc::new(Thinned {
            local: AtomicU32::new(0),
            countdown: AtomicU32::new(9),
            missing: AtomicU32::new(0),
            links: core::array::from_fn(|_| UnsafeCell::new(0)),
            lock: Mutex::new(()),
        });
        let scavenger = {
            let span = span.clone();
            thread::spawn(move || {
                let _held = span.lock.lock().unwrap();
                let head = span.local.load(Acquire);
                let mut chain = Vec::new();
                let mut block = head;
                while block != 0 {
                    chain.push(block);
                    block = span.next(block);
                }
                if chain.len() >= 3 {
                    span.set_next(head, chain[2]);
                    span.missing.store(1, Relaxed);
                }
                // All that were pushed by then, the last one first.
                assert!(chain.into_iter().eq((1..=head).rev()));
            })
        };
        (1..=4).for_each(|block| span.push(block));
        let held = span.lock.lock().unwrap();
        let mut blocks = 0;
        let mut block = span.local.load(Relaxed);
        while block != 0 {
            blocks += 1;
            block = span.next(block);
        }
        let freed = 9 - span.countdown.load(Relaxed);
        assert_eq!(blocks, freed - span.missing.load(Relaxed));
        drop(held);
        scavenger.join().unwrap();
    });
}
