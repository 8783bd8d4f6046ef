//! Models of how the owner of a span learns that others freed its blocks, for
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib loom`.
//!
//! [`Remote`] and [`Mailbox`] are the ones that ship. Around them a *world* of one
//! span, two thread heaps and the central lock walks the steps of `review`,
//! `review_central`, `deliver`, `close_thread` and `adopt`, without the lists.
//!
//! # What is proved, within the bounds
//!
//! 1. When every block is free, exactly one party retires the span, once.
//! 2. Only the owner reviews the span and touches its plain words: loom's cell fails on a race.
//! 3. A message is in one mailbox at most, and none is left unread.
//! 4. Who takes bundles, or sees that all is in them, sees what was written into their blocks.
//!    The scavenger takes blocks off a chain behind the head that it read, while the owner puts
//!    one in front: no link is read and written at once, and who takes the chain finds all
//!    blocks but those ([`chains`]).
//! 5. When the owner's own free empties a span, the owner or the scavenger ends it, once,
//!    and who ends it sees what the owner wrote into its blocks.

mod chains;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

use super::mailbox::{Mail, Mailbox};
use super::remote::{NEVER, Remote, Tell};
use crate::base::sync::{AtomicPtr, Ordering::*};

/// Blocks of the span, all of them with the program at first.
const BLOCKS: u32 = 2;

/// What only the span's owner may read or write.
#[derive(Default)]
struct Words {
    on_central: bool,
    retired: u32,
}

struct Item {
    remote: Remote,
    mail: AtomicPtr<Item>,
    home: AtomicUsize,
    words: UnsafeCell<Words>,
}

impl Mail for Item {
    fn link(item: *mut Self) -> *const AtomicPtr<Self> {
        // SAFETY: the world lives as long as the model runs.
        unsafe { &raw const (*item).mail }
    }
}

struct World {
    item: Item,
    heaps: [Mailbox<Item>; 2],
    central: Mutex<()>,
}

// SAFETY: what loom guards, loom guards.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            item: Item {
                remote: Remote::new(),
                mail: AtomicPtr::new(core::ptr::null_mut()),
                home: AtomicUsize::new(0),
                words: UnsafeCell::new(Words::default()),
            },
            heaps: [Mailbox::new(), Mailbox::new()],
            central: Mutex::new(()),
        })
    }

    fn link(&self) -> *mut Item {
        core::ptr::from_ref(&self.item).cast_mut()
    }

    fn words<R>(&self, use_words: impl FnOnce(&mut Words) -> R) -> R {
        // SAFETY: the owner alone comes here; loom fails otherwise.
        self.item.words.with_mut(|words| use_words(unsafe { &mut *words }))
    }

    /// Another thread frees one block.
    fn free(&self, head: u32) {
        if self.item.remote.push(head, 1, |_| ()) == Tell::Owner {
            self.deliver();
        }
    }

    fn deliver(&self) {
        loop {
            if self.item.remote.view().abandoned() {
                let central = self.central.lock().unwrap();
                if self.item.remote.view().abandoned() {
                    return self.review_central(&central, true);
                }
            }
            let home = self.item.home.load(Relaxed);
            // SAFETY: the item lives as long as the world.
            if unsafe { self.heaps[home].push(self.link()) }.is_ok() {
                return;
            }
            thread::yield_now();
        }
    }

    fn retire_if_settled(&self, mail: bool) {
        if self.item.remote.is_settled(mail) {
            self.words(|words| words.retired += 1);
        }
    }

    /// By the thread that owns the span.
    fn review(&self, who: usize, mut mail: bool) {
        let remote = &self.item.remote;
        assert!(!remote.view().abandoned(), "reviewed by a thread and owned by none");
        assert!(!mail || remote.view().posted(), "a message without its token");
        assert_eq!(self.item.home.load(Relaxed), who, "reviewed by another thread than its owner");
        self.words(|words| assert_eq!(words.retired, 0));
        loop {
            let count = remote.view().count();
            let in_use = BLOCKS - count;
            if in_use == 0 {
                return self.retire_if_settled(mail);
            }
            if remote.ask(count + in_use.div_ceil(2), mail) {
                return;
            }
            mail = false;
        }
    }

    fn review_central(&self, _: &MutexGuard<'_, ()>, mut mail: bool) {
        let remote = &self.item.remote;
        assert!(remote.view().abandoned(), "reviewed under the lock and owned by a thread");
        assert!(!mail || remote.view().posted(), "a message without its token");
        loop {
            if remote.view().count() == BLOCKS {
                return self.retire_if_settled(mail);
            }
            self.words(|words| words.on_central = true);
            if remote.ask(BLOCKS, mail) {
                return;
            }
            mail = false;
        }
    }

    fn read_mail(&self, who: usize) {
        self.heaps[who].drain(|_| {
            if self.item.remote.is_owned_where(|| self.item.home.load(Relaxed) == who) {
                self.review(who, true);
            } else {
                self.deliver();
            }
        });
    }

    /// Thread `who` ends; `owns` says whether the span is its.
    fn close(&self, who: usize, owns: bool) {
        self.read_mail(who);
        let central = self.central.lock().unwrap();
        if owns && self.words(|words| words.retired == 0) {
            let is_empty = self.item.remote.view().count() == BLOCKS;
            if is_empty && !self.item.remote.view().posted() {
                self.words(|words| words.retired += 1);
            } else {
                self.item.remote.abandon(NEVER);
                self.review_central(&central, false);
            }
        }
        self.heaps[who].close(|_| {
            if self.item.remote.view().abandoned() {
                return self.review_central(&central, true);
            }
            let home = self.item.home.load(Relaxed);
            assert_ne!(home, who);
            // SAFETY: the item lives as long as the world.
            assert!(unsafe { self.heaps[home].push(self.link()) }.is_ok());
        });
    }

    /// Thread 1 takes the span, if it is there to be taken.
    fn adopt(&self) -> bool {
        let central = self.central.lock().unwrap();
        if !self.item.remote.view().abandoned() {
            return false;
        }
        let here = self.words(|words| words.on_central && words.retired == 0);
        if here {
            self.words(|words| words.on_central = false);
            self.item.home.store(1, Relaxed);
            self.item.remote.adopt();
        }
        drop(central);
        if here {
            self.review(1, false);
            self.read_mail(1);
        }
        here
    }

    /// All threads have ended but the owner, which reads its mail a last time.
    fn end(&self) {
        self.read_mail(1);
        assert_eq!(self.words(|words| words.retired), 1, "every block is free");
        assert!(!self.heaps[1].has_mail());
    }
}

/// Two threads that free a block each.
fn two_others(world: &Arc<World>) -> [thread::JoinHandle<()>; 2] {
    [1, 2].map(|head| {
        let world = world.clone();
        thread::spawn(move || world.free(head))
    })
}

/// Every schedule with that many preemptions at most.
fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

#[test]
fn loom_the_owner_learns_that_all_is_free() {
    model(3, || {
        let world = World::new();
        let others = two_others(&world);
        world.review(0, false);
        world.read_mail(0);
        others.into_iter().for_each(|other| other.join().unwrap());
        if world.words(|words| words.retired == 0) {
            world.read_mail(0);
        }
        assert_eq!(world.words(|words| words.retired), 1);
        assert!(!world.heaps[0].has_mail());
    });
}

#[test]
fn loom_a_span_whose_owner_ends_is_retired_once() {
    model(3, || {
        let world = World::new();
        let others = two_others(&world);
        world.review(0, false);
        world.close(0, true);
        others.into_iter().for_each(|other| other.join().unwrap());
        world.end();
    });
}

#[test]
fn loom_a_span_that_is_adopted_is_retired_once() {
    model(2, || {
        let world = World::new();
        let heir = {
            let world = world.clone();
            thread::spawn(move || world.adopt())
        };
        let others = two_others(&world);
        world.review(0, false);
        world.close(0, true);
        others.into_iter().for_each(|other| other.join().unwrap());
        heir.join().unwrap();
        world.end();
    });
}

/// The heap of the ended owner gets a new thread, which ends as well: what was
/// posted to the first one must reach whoever has the span by then.
#[test]
fn loom_a_message_to_a_former_owner_is_passed_on() {
    model(3, || {
        let world = World::new();
        let other = {
            let world = world.clone();
            thread::spawn(move || {
                world.free(1);
                world.free(2);
            })
        };
        let heir = {
            let world = world.clone();
            thread::spawn(move || world.adopt())
        };
        world.review(0, false);
        world.close(0, true);
        world.heaps[0].open();
        world.close(0, false);
        other.join().unwrap();
        heir.join().unwrap();
        world.end();
    });
}

/// A message that is posted late: the heap it goes to has its next thread, and the span its next
/// owner, which alone may look at it.
#[test]
fn loom_a_late_message_is_passed_on_to_the_next_owner() {
    model(3, || {
        let world = World::new();
        world.item.remote.set_notify(1);
        let told = world.item.remote.push(1, 1, |_| ());
        assert_eq!(told, Tell::Owner, "this thread holds the message");
        let former = {
            let world = world.clone();
            thread::spawn(move || {
                world.close(0, true);
                world.heaps[0].open();
                world.read_mail(0);
                world.close(0, false);
            })
        };
        let heir = {
            let world = world.clone();
            thread::spawn(move || world.adopt())
        };
        world.deliver();
        world.free(2);
        former.join().unwrap();
        heir.join().unwrap();
        world.end();
    });
}

/// The owner's last free against the scavenger: `push_block`, the lock, the look at who
/// owns the span; and `reap_mail`.
#[test]
fn loom_a_span_that_its_owner_empties_is_ended_once() {
    use loom::sync::atomic::AtomicU32;

    struct Parked {
        countdown: AtomicU32,
        owned: AtomicU32,
        block: UnsafeCell<u32>,
        lock: Mutex<()>,
    }
    // SAFETY: what loom guards, loom guards.
    unsafe impl Sync for Parked {}

    impl Parked {
        /// The lock is held, and the span is empty.
        fn end(&self) {
            self.owned.store(0, Relaxed);
            // SAFETY: the span is empty, and the pages are given back.
            self.block.with_mut(|block| assert_eq!(unsafe { core::mem::take(&mut *block) }, 7));
        }
    }

    model(3, || {
        let span = Arc::new(Parked {
            countdown: AtomicU32::new(1),
            owned: AtomicU32::new(1),
            block: UnsafeCell::new(0),
            lock: Mutex::new(()),
        });
        let scavenger = {
            let span = span.clone();
            thread::spawn(move || {
                let _held = span.lock.lock().unwrap();
                let ends = span.owned.load(Relaxed) == 1 && span.countdown.load(Acquire) == 0;
                if ends {
                    span.end();
                }
                u32::from(ends)
            })
        };
        // SAFETY: the block is the owner's until it is counted free.
        span.block.with_mut(|block| unsafe { *block = 7 });
        span.countdown.store(0, Release);
        let held = span.lock.lock().unwrap();
        let ends = span.owned.load(Relaxed) == 1;
        if ends {
            span.end();
        }
        drop(held);
        assert_eq!(u32::from(ends) + scavenger.join().unwrap(), 1);
    });
}
