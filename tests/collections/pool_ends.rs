//! Threads and epochs that end: what they leave, and what they must not wait for.

use spanalloc::pool::{Epochs, Keep, Pool};
use std::sync::{Arc, Mutex, mpsc};
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
