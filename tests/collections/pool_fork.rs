//! Pools in the child of a fork, which has one thread: whatever the others were doing, the child
//! waits for none of them.

use spanalloc::pool::{Epochs, Keep, Pool};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// Whether `work` ends in a child of a fork within some seconds and says true.
fn in_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls the pools and the allocator only, which glibc prepares for forks.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork failed");
    if child == 0 {
        // SAFETY: no preconditions: the alarm ends a child that waits.
        unsafe { libc::alarm(20) };
        // A panic would end the child's one thread, and the child as if all were well.
        let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
        // SAFETY: no preconditions; nothing of the parent's is run or dropped.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    let mut status = 0;
    // SAFETY: `status` is there to be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status == 0
}

#[test]
fn an_advance_that_the_fork_cut_off_holds_up_none() {
    /// Stops whoever drops it, once it is armed, until it is told to go on.
    struct Stop(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>);

    impl Drop for Stop {
        fn drop(&mut self) {
            let _ = self.0.send(());
            let _ = self.1.lock().unwrap().recv();
        }
    }

    let (stopped, stops) = mpsc::channel();
    let (go_on, gone_on) = mpsc::channel();
    let pool: Pool<Stop> = Pool::new(|| unreachable!());
    pool.put(Box::new(Stop(stopped, Mutex::new(gone_on))));
    pool.advance();
    thread::scope(|scope| {
        let pool = &pool;
        scope.spawn(move || {
            stops.recv().unwrap();
            assert_eq!(pool.advance(), None, "another thread is at it");
            assert!(in_child(|| pool.advance().is_some() && pool.advance().is_some()));
            drop(go_on);
        });
        assert_eq!(pool.advance(), Some(1), "waits for the other thread to be done");
    });
}

#[test]
fn threads_that_come_and_go_hold_up_none() {
    let pool = Pool::new(|| Keep(0u64));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (pool, stop) = (&pool, &stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    thread::scope(|scope| drop(scope.spawn(|| drop(pool.get()))));
                    pool.advance();
                }
            });
        }
        let children = (0..50).all(|_| {
            // By a thread that is new to the pools, with a pool of its own: what the others were
            // doing to theirs may be half done.
            let child = || {
                in_child(|| {
                    let own = Pool::new(|| Keep(1u64));
                    own.get().0 == 1 && own.advance() == Some(0) && own.get().0 == 1
                })
            };
            thread::scope(|scope| scope.spawn(child).join().unwrap())
        });
        stop.store(true, SeqCst);
        assert!(children);
    });
}

/// The thread of the epochs is the parent's.
#[test]
fn epochs_end_in_a_child_at_once() {
    let pool: Pool<Vec<u8>> = Pool::new(Vec::new);
    for _ in 0..50 {
        // Its thread may be anywhere: at an epoch, or about to wait.
        let epochs = Epochs::every(&pool, Duration::from_nanos(1)).unwrap();
        assert!(in_child(|| {
            drop(epochs);
            true
        }));
    }
}
