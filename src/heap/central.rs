//! The central lists: spans whose thread has ended, and the chain of all heaps.
//!
//! A span that nobody owns is *adrift* while it is nearly full, and on the central
//! list of its class once an eighth of it is free; the next thread that needs a
//! span of the class adopts it. Frees of its blocks are all remote; the push that
//! makes it worth linking, or empties it, posts a message, and who posts it does
//! the work here, under the lock.
//!
//! # Invariants
//!
//! 1. A span with the *abandoned* flag is owned by whoever holds this lock.
//! 2. It has no `local` blocks: what its last owner freed is spare.

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Heap;
use super::cache::Cache;
use super::class::{CLASSES, ClassId};
use super::list::SpanList;
use super::remote::NEVER;
use super::scavenge;
use super::span::{Kind, NOBODY, Place, Span};
use super::thread::ThreadHeap;
use crate::base::own::{OwnPtr, OwnU64};
use crate::sys::os::Os;

/// What threads share. Lives under a lock of the heap's.
#[derive(Debug)]
pub(crate) struct Central {
    partial: [SpanList; CLASSES],
    /// The chain of all thread heaps, the shared ones included.
    pub(crate) all: OwnPtr<ThreadHeap>,
    /// The chain of thread heaps without a thread.
    idle: OwnPtr<ThreadHeap>,
    /// Threads that have had a heap so far, and those that have one now.
    threads: u64,
    open: u64,
    /// Per class, blocks freed by strangers in spans that were retired here.
    pub(crate) remote: [OwnU64; CLASSES],
    /// Per class, free blocks that no thread of a forked child can reach.
    pub(crate) lost: [OwnU64; CLASSES],
}

/// How many spans are on each central list: lets a refill pass by without the lock.
#[derive(Debug)]
pub(crate) struct Hints([AtomicU32; CLASSES]);

impl Hints {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; CLASSES])
    }

    #[inline]
    fn of(&self, class: ClassId) -> &AtomicU32 {
        // SAFETY: a class is below CLASSES.
        unsafe { self.0.get_unchecked(class.index()) }
    }
}

impl Central {
    pub(crate) const fn new() -> Self {
        Self {
            partial: [const { SpanList::new() }; CLASSES],
            all: OwnPtr::new(ptr::null_mut()),
            idle: OwnPtr::new(ptr::null_mut()),
            threads: 0,
            open: 0,
            remote: [const { OwnU64::new(0) }; CLASSES],
            lost: [const { OwnU64::new(0) }; CLASSES],
        }
    }

    pub(super) fn list(&self, class: ClassId) -> &SpanList {
        // SAFETY: a class is below CLASSES.
        unsafe { self.partial.get_unchecked(class.index()) }
    }

    /// Threads that have a heap, from here on.
    pub(super) fn set_open(&mut self, open: u64) {
        self.open = open;
    }

    /// Adds a heap whose thread has ended to those that wait for the next one.
    pub(super) fn put_idle(&self, thread_heap: &ThreadHeap) {
        thread_heap.next_idle.set(self.idle.get());
        self.idle.set(ptr::from_ref(thread_heap).cast_mut());
    }

    /// Counts blocks that were on the lists of a thread which a fork left behind.
    pub(super) fn count_lost(&self, class: ClassId, blocks: u32) {
        if let Some(count) = self.lost.get(class.index()) {
            count.add(blocks.into());
        }
    }

    /// Counts blocks that strangers freed in a span that ends.
    fn count_remote(&self, class: ClassId, blocks: u32) {
        if let Some(count) = self.remote.get(class.index()) {
            count.add(blocks.into());
        }
    }

    /// Adds a heap to the chain of all.
    fn enrol(&self, thread_heap: *mut ThreadHeap) {
        // SAFETY: thread heaps live as long as the heap.
        unsafe { &*thread_heap }.next_all.set(self.all.get());
        self.all.set(thread_heap);
    }
}

impl<O: Os> Heap<O> {
    /// The thread heaps from `first` on, the newest first. They are never unmapped, and their
    /// chain grows at its beginning only, so no lock is needed.
    #[inline]
    pub(super) fn heaps_from(&self, first: *mut ThreadHeap) -> impl Iterator<Item = &ThreadHeap> {
        // SAFETY: null, or a thread heap, which lives as long as the heap.
        let at = |place: *mut ThreadHeap| unsafe { place.as_ref() };
        core::iter::successors(at(first), move |heap| at(heap.next_all.get()))
    }

    /// Gives `cache`, which has none, a heap. `false` when the OS has no more.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn open_thread(&self, cache: &Cache) -> bool {
        let mut central = self.central.lock();
        let thread_heap = match central.idle.get() {
            idle if !idle.is_null() => {
                // SAFETY: thread heaps live as long as the heap.
                central.idle.set(unsafe { &*idle }.next_idle.get());
                idle
            }
            _ => {
                let mut space = self.space.lock();
                let fresh = space.place_zero::<ThreadHeap>(&self.os);
                let Some(fresh) = fresh else { return false };
                space.note_thread_heap(Kind::Blocks);
                drop(space);
                central.enrol(fresh.as_ptr());
                fresh.as_ptr()
            }
        };
        central.threads += 1;
        central.open += 1;
        // SAFETY: as above.
        let opened = unsafe { &*thread_heap };
        opened.seed(self.os.entropy() ^ central.threads);
        // A thread that ended inside a measurement had it go on.
        opened.begin_unobserved();
        opened.mailbox.open();
        opened.shelf.begin();
        opened.worthwhile_bytes.set(scavenge::worthwhile_bytes(central.open));
        // Behind the mailbox: who sees a thread here may push and drain.
        opened.cache.publish(ptr::from_ref(cache).cast_mut());
        cache.attach(thread_heap);
        true
    }

    /// Opens a shared heap for spans of `kind`, whose lock the caller holds.
    pub(crate) fn open_shared(&self, cache: &Cache, thread_heap: &ThreadHeap, kind: Kind) {
        let central = self.central.lock();
        let address = ptr::from_ref(thread_heap).cast_mut();
        self.space.lock().note_thread_heap(kind);
        central.enrol(address);
        thread_heap.for_samples.set((kind == Kind::Sampled).into());
        thread_heap.seed(self.os.entropy());
        thread_heap.worthwhile_bytes.set(scavenge::worthwhile_bytes(1));
        thread_heap.cache.set(ptr::from_ref(cache).cast_mut());
        cache.attach(address);
    }

    /// The thread of `cache` ends: its spans go to the central lists, its heap to
    /// the next new thread. Later frees and allocations of the thread are served
    /// by the shared heap.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn close_thread(&self, cache: &Cache) {
        let Some(thread_heap) = cache.owner() else { return };
        thread_heap.empty_lists(self, cache);
        self.empty_shelf(thread_heap);
        self.flush_outbox(thread_heap);
        let held = thread_heap.depot.lock();
        thread_heap.read_mail(self);
        let mut central = self.central.lock();
        central.open -= 1;
        cache.detach();
        self.disown(&central, thread_heap, Span::spare_freed);
        thread_heap.cache.set(ptr::null_mut());
        // Before others may fork: a heap that waits for its next thread is not locked.
        drop(held);
        central.put_idle(thread_heap);
    }

    /// Has the spans of a heap without a thread be nobody's, and closes its mailbox. `collect`
    /// makes what their owner freed there spare. Its depot's lock is held.
    #[unsafe(link_section = ".spanalloc.text")]
    pub(super) fn disown(
        &self,
        central: &Central,
        thread_heap: &ThreadHeap,
        collect: impl Fn(Span),
    ) {
        thread_heap.hand_over(|span| {
            collect(span);
            self.set_adrift(central, span);
        });
        // Spans are abandoned before the mailbox closes: who finds it closed looks
        // again and sees that.
        thread_heap.mailbox.close(|item| {
            let Some(span) = Span::from_link(item) else { return };
            if span.cold().remote.view().abandoned() {
                self.review_central(central, span, true);
                return;
            }
            // Sent to the thread that had this heap before; its home's mailbox is
            // open, since closing one takes the lock held here.
            // SAFETY: thread heaps live as long as the heap.
            let home = unsafe { &*span.cold().home.get() };
            // SAFETY: the span's header stays valid while it is posted.
            if unsafe { home.mailbox.push(item) }.is_err() {
                crate::sys::fatal::die("a span's home is closed");
            }
        });
    }

    /// Has a span that was just taken from its heap be nobody's, or ends it. Out of line, for a
    /// closure has no section.
    #[inline(never)]
    #[unsafe(link_section = ".spanalloc.text")]
    fn set_adrift(&self, central: &Central, span: Span) {
        let is_empty = span.in_use() == 0;
        // Looked at after that: the push that emptied it may have a message to deliver.
        let remote = span.cold().remote.view();
        if is_empty && !remote.posted() {
            // No block is left that anybody could free.
            central.count_remote(span.class(), remote.count());
            self.retire(span);
            return;
        }
        span.hot().owner.set(NOBODY);
        span.hot().place.set(Place::Adrift as u8);
        span.cold().remote.abandon(NEVER);
        self.review_central(central, span, false);
    }

    /// Threads that have a heap. A child of a fork finds its own alone.
    #[cfg(any(test, feature = "preload"))]
    pub(crate) fn threads_open(&self) -> u64 {
        self.central.lock().open
    }

    /// Counts blocks that strangers freed in a span that its owner did not end.
    pub(crate) fn count_remote(&self, class: ClassId, blocks: u32) {
        self.central.lock().count_remote(class, blocks);
    }

    /// Takes a span of `class` off its central list for the heap at `home`.
    pub(crate) fn adopt(&self, class: ClassId, kind: Kind, home: *mut ThreadHeap) -> Option<Span> {
        if kind != Kind::Blocks || self.hints.of(class).load(Relaxed) == 0 {
            return None;
        }
        let central = self.waits.lock(&self.central, class);
        let span = central.list(class).pop()?;
        self.hints.of(class).fetch_sub(1, Relaxed);
        span.cold().home.set(home);
        span.cold().remote.adopt();
        span.hot().owner.set(home);
        Some(span)
    }

    /// Delivers the message about `span` whose token the caller holds.
    #[cold]
    #[unsafe(link_section = ".spanalloc.text")]
    pub(crate) fn deliver(&self, span: Span) {
        // Its owner may be asleep, and what it regained is worth a look.
        self.note_sparse();
        loop {
            if span.cold().remote.view().abandoned() {
                let central = self.central.lock();
                // Changes only under the lock, so this answer holds.
                if span.cold().remote.view().abandoned() {
                    self.review_central(&central, span, true);
                    return;
                }
            }
            // SAFETY: thread heaps live as long as the heap. A home read too early
            // gets a message that is not its own, and passes it on.
            let home = unsafe { &*span.cold().home.get() };
            // SAFETY: the span's header stays valid while it is posted.
            if unsafe { home.mailbox.push(span.link()) }.is_ok() {
                return;
            }
        }
    }

    /// Looks at a span that nobody owns: retires it when it is empty, links it when
    /// that is worth it, and asks to be told of either. `mail` says that this
    /// handles the span's message.
    #[unsafe(link_section = ".spanalloc.text")]
    fn review_central(&self, central: &Central, span: Span, mail: bool) {
        let remote = &span.cold().remote;
        let class = span.class();
        let mut mail = mail;
        loop {
            let in_use = span.in_use();
            if in_use == 0 {
                if !remote.is_settled(mail) {
                    return;
                }
                if span.place() == Place::Central {
                    central.list(class).remove(span);
                    self.hints.of(class).fetch_sub(1, Relaxed);
                }
                central.count_remote(class, remote.view().count());
                self.retire(span);
                return;
            }
            let hot = span.hot();
            let here = class.capacity() - hot.out.get();
            let elsewhere = remote.view().count();
            if span.place() == Place::Adrift && here + elsewhere >= span.worthwhile() {
                central.list(class).append(span);
                self.hints.of(class).fetch_add(1, Relaxed);
                hot.place.set(Place::Central as u8);
            }
            if span.place() == Place::Central && here + elsewhere >= class.capacity() / 2 {
                self.note_sparse();
            }
            let notify = match span.place() {
                Place::Central => hot.out.get(),
                _ => (span.worthwhile() - here).min(hot.out.get()),
            };
            if remote.ask(notify, mail) {
                return;
            }
            mail = false;
        }
    }
}
