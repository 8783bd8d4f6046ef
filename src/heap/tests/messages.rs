//! Messages on their way: a span that is posted stays until its message is read, for who delivers
//! it names the span by its header.

use super::Worker;
use crate::heap::Heap;
use crate::heap::class::ClassId;
use crate::heap::remote::NEVER;
use crate::heap::span::{Place, Span};
use crate::heap::thread::ThreadHeap;
use crate::sys::fake::Fake;

/// Ten of these are a span.
const BYTES: usize = 6000;

fn class() -> ClassId {
    ClassId::of(Worker::layout(BYTES, 8)).unwrap()
}

/// The heap of a worker, and its current span, of which all blocks were freed by another; where
/// `in_use`, all but one.
fn emptied(worker: &Worker, in_use: bool) -> (&ThreadHeap, Span) {
    let (heap, layout) = (worker.heap, Worker::layout(BYTES, 8));
    let mut pieces = vec![worker.allocate(layout).unwrap()];
    // What was carved and not used would go home with the thread's lists only.
    while heap.counts().classes[class().index()].listed > 0 {
        pieces.push(worker.allocate(layout).unwrap());
    }
    let other = Worker::new(heap);
    pieces.drain(usize::from(in_use)..).for_each(|piece| other.free(piece));
    other.close();
    let owner = worker.cache.owner().unwrap();
    let span = Span::from_link(owner.bin(class()).current.get()).unwrap();
    assert_eq!((span.in_use(), heap.slots_in_use()), (u32::from(in_use), 1));
    (owner, span)
}

/// Makes a message as a push does that races with whoever made the span current; it is not in a
/// mailbox yet.
fn post(span: Span) {
    assert!(!span.cold().remote.keep_posted(NEVER).posted());
}

fn put_in_mailbox(owner: &ThreadHeap, span: Span) {
    // SAFETY: the span stays while it is posted.
    unsafe { owner.mailbox.push(span.link()) }.unwrap();
}

fn read_mail(owner: &ThreadHeap, heap: &Heap<Fake>) {
    let _held = owner.depot.lock();
    owner.read_mail(heap);
}

/// Otherwise nobody is told of the span any more.
#[test]
fn a_message_of_the_current_span_is_handled_by_its_owner_and_by_the_scavenger() {
    static HEAPS: [Heap<Fake>; 2] = [const { Heap::new(Fake::new(1 << 30)) }; 2];
    for (heap, by_owner) in HEAPS.iter().zip([true, false]) {
        let worker = Worker::new(heap);
        let (owner, span) = emptied(&worker, true);
        post(span);
        put_in_mailbox(owner, span);
        if by_owner {
            read_mail(owner, heap);
        } else {
            heap.reap(false);
        }
        assert!(!span.cold().remote.view().posted(), "{by_owner}");
        heap.check();
    }
}

#[test]
fn thinning_leaves_an_empty_current_span_of_which_a_message_is_on_its_way() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let (owner, span) = emptied(&worker, false);
    post(span);
    HEAP.thin(true);
    assert_eq!(HEAP.slots_in_use(), 1);
    put_in_mailbox(owner, span);
    read_mail(owner, &HEAP);
    HEAP.thin(true);
    assert_eq!(HEAP.slots_in_use(), 0);
    worker.close();
    HEAP.check();
}

#[test]
fn the_end_of_a_thread_leaves_an_empty_span_to_who_delivers_its_message() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let worker = Worker::new(&HEAP);
    let (_, span) = emptied(&worker, false);
    post(span);
    worker.close();
    assert_eq!((HEAP.slots_in_use(), span.place()), (1, Place::Adrift));
    HEAP.deliver(span);
    assert_eq!(HEAP.slots_in_use(), 0);
    HEAP.check();
}

#[test]
fn an_owner_leaves_an_empty_parked_span_of_which_it_has_mail() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    let layout = Worker::layout(BYTES, 8);
    let mut pieces: Vec<_> = (0..20).map(|_| worker.allocate(layout).unwrap()).collect();
    let rest = pieces.split_off(10);
    // SAFETY: a live block of that class.
    let span = unsafe { Span::of_class(class(), pieces[0].start.as_ptr().cast()) };
    pieces.into_iter().for_each(|piece| other.free(piece));
    other.close();
    let owner = worker.cache.owner().unwrap();
    assert!(span.place() != Place::Current && span.cold().remote.view().posted());
    let before = (HEAP.slots_in_use(), span.in_use());
    assert_eq!(before.1, 0);
    // As its countdown has it do.
    let held = owner.depot.lock();
    owner.review(&HEAP, span, false);
    drop(held);
    assert_eq!(HEAP.slots_in_use(), before.0);
    read_mail(owner, &HEAP);
    assert_eq!(HEAP.slots_in_use(), before.0 - 1);
    rest.into_iter().for_each(|piece| worker.free(piece));
    worker.close();
    HEAP.check();
    assert_eq!(HEAP.slots_in_use(), 0);
}

/// The scavenger may come to a heap whose thread has just ended.
#[test]
fn a_closed_mailbox_stays_closed_when_the_scavenger_comes() {
    static HEAP: Heap<Fake> = Heap::new(Fake::new(1 << 30));
    let (worker, other) = (Worker::new(&HEAP), Worker::new(&HEAP));
    assert!(HEAP.open_thread(&other.cache));
    let (owner, _) = emptied(&worker, false);
    worker.close();
    let piece = other.allocate(Worker::layout(BYTES, 8)).unwrap();
    assert!(!core::ptr::eq(owner, other.cache.owner().unwrap()));
    HEAP.reap_one(owner, true);
    // SAFETY: a live block of that class.
    let span = unsafe { Span::of_class(class(), piece.start.as_ptr().cast()) };
    // SAFETY: the span stays while it has a live block.
    assert!(unsafe { owner.mailbox.push(span.link()) }.is_err());
    other.free(piece);
    other.close();
    HEAP.check();
}
