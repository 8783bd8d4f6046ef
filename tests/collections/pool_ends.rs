//! Threads and epochs that end: what they leave, and what they must not wait for.

use crate::pool::Counted;
use spanalloc::pool::{Epochs, Keep, Pool};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Epochs whose last owner is their own condition do not wait for themselves.
#[test]
fn epochs_may_be_dropped_on_their_own_thread() {
    type Owner = Arc<Mutex<Option<Epochs>>>;
    let pool: Pool<Keep<u8>> = Pool::new(|| Keep(0));
    let owner: Owner = Arc::default();
    let weak = Arc::downgrade(&owner);
    let (entered, enter) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (survived, survives) = mpsc::channel();
    let condition = move || {
        if let Some(owner) = weak.upgrade() {
            entered.send(()).unwrap();
            may_go_on.recv().unwrap();
            drop(owner);
            survived.send(()).unwrap();
        }
        false
    };
    *owner.lock().unwrap() =
        Some(Epochs::when(&pool, Duration::from_millis(1), condition).unwrap());
    enter.recv().unwrap();
    drop(owner);
    go_on.send(()).unwrap();
    let wait = Duration::from_secs(20);
    assert_eq!(survives.recv_timeout(wait), Ok(()), "the drop panicked, or waits");
    // The thread drops its condition as it ends, and so the other end of the channel.
    assert_eq!(survives.recv_timeout(wait), Err(mpsc::RecvTimeoutError::Disconnected));
}

/// A value that was put back two epochs ago is dropped when its thread ends, as when it comes by.
#[test]
fn an_ending_thread_leaves_nothing_that_is_outdated() {
    for (advances, kept) in [(0, true), (1, true), (2, false), (3, false)] {
        let live = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(|| Counted::new(&live));
        let (put, is_there) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let (pool, live) = (&pool, &live);
            let idle = scope.spawn(move || {
                pool.put(Box::new(Counted::new(live)));
                put.send(()).unwrap();
                may_end.recv().unwrap();
            });
            is_there.recv().unwrap();
            for _ in 0..advances {
                pool.advance();
            }
            end.send(()).unwrap();
            idle.join().unwrap();
        });
        let left = usize::from(kept);
        assert_eq!(live.load(SeqCst), left, "after {advances} epochs");
        crate::pool::check(pool.stats(), left as u64);
        assert_eq!(pool.try_take().is_some(), kept, "after {advances} epochs");
    }
}
